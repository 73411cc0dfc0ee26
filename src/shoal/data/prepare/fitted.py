"""A preparation whose numbers are known: applied to batches, described, kept as JSON, written into a graph."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from shoal.base import (
    CorruptError,
    InputError,
    Json,
    SchemaError,
    UnsupportedError,
    decode,
    digest_json,
    encode,
    pretty,
)
from shoal.data.prepare.base import Values, Wires
from shoal.data.prepare.chain import Chain
from shoal.data.prepare.concatenate import Concatenate
from shoal.data.prepare.forms import from_form, to_form
from shoal.data.schema import Column, Schema

if TYPE_CHECKING:
    import onnx

FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class FittedOn:
    """The rows that a preparation learned from."""

    address: str
    digest: str
    num_rows: int


@dataclass(frozen=True, slots=True)
class Plan:
    """What is done: chains of operators, then vectors of their results; `passed` columns stay as they are.

    `hidden` columns are computed and not given: those that nobody asked for beside what was.
    """

    chains: tuple[Chain, ...]
    vectors: tuple[tuple[str, Concatenate], ...]
    passed: tuple[Column, ...]
    declared: Mapping[str, Json]
    hidden: frozenset[str] = frozenset()

    def outputs(self) -> tuple[Column, ...]:
        """Return the columns of a prepared batch: those that pass, the prepared ones, the vectors.

        Raises:
            SchemaError: an operator does not fit, a vector names no prepared column, or a name comes twice.
        """
        found = {column.name: column for chain in self.chains for column in chain.outputs()}
        vectors = []
        for name, vector in self.vectors:
            if unknown := [part for part in vector.columns if part not in found]:
                raise SchemaError(
                    f"{name!r} concatenates {unknown[0]!r}, which is not prepared: found {', '.join(found)}",
                    next_step=f"prepare {unknown[0]!r} too, with [Cast()] if nothing else is to be done",
                )
            vectors.append(vector.output(name, [found[part] for part in vector.columns]))
        used = self.absorbed()
        columns = [*self.passed, *(column for column in found.values() if column.name not in used), *vectors]
        # What a chain and a vector are both called, or an indicator and a column.
        given = [*(column.name for column in self.passed), *_names(self.chains), *(name for name, _ in self.vectors)]
        if twice := sorted({name for name in given if given.count(name) > 1}):
            raise SchemaError(f"two columns would be called {twice[0]!r}", next_step="rename or drop one of them")
        return tuple(columns)

    def absorbed(self) -> set[str]:
        """Return the prepared columns that are not given: found in vectors alone, or hidden."""
        kept = {part for _, vector in self.vectors if vector.keep for part in vector.columns}
        return {part for _, vector in self.vectors if not vector.keep for part in vector.columns} - kept | self.hidden


@dataclass(frozen=True)
class FittedPreparation:
    """A preparation that can be applied. Immutable; any number of threads may use it.

    `digest` names what it does and the rows that it learned from, wherever these lie.
    """

    plan: Plan
    fitted_on: FittedOn | None = None

    def with_source(self, source: FittedOn | None) -> "FittedPreparation":
        """Return it with a record of the rows that it learned from."""
        return replace(self, fitted_on=source)

    @cached_property
    def input_schema(self) -> Schema:
        """The raw columns that it takes."""
        return Schema((*(chain.column for chain in self.plan.chains), *self.plan.passed))

    @cached_property
    def output_schema(self) -> Schema:
        """The columns of a prepared batch, in order."""
        return Schema(self.plan.outputs())

    def apply(self, batch: Mapping[str, Values]) -> dict[str, Values]:
        """Return a prepared batch; the given one is not changed.

        Args:
            batch: arrays by name as they are stored, with "<name>_mask" where values may be missing. Columns that pass
                may be absent; dropped ones are ignored.

        Raises:
            InputError: a column is missing, of another type or shape, or lacks values that nothing fills; the message
                names the column.
        """
        found = {name: values for chain in self.plan.chains for name, values in chain.apply(batch)}
        prepared: dict[str, Values] = {}
        for name in self._passed:
            if name in batch:
                prepared[name] = batch[name]
        prepared |= {name: values for name, values in found.items() if name not in self._absorbed}
        for name, vector in self.plan.vectors:
            prepared[name] = vector.apply(found)
        return prepared

    @cached_property
    def _passed(self) -> tuple[str, ...]:
        return tuple(name for column in self.plan.passed for name in (column.name, f"{column.name}_mask"))

    @cached_property
    def _absorbed(self) -> set[str]:
        return self.plan.absorbed()

    def select(self, names: Sequence[str]) -> "FittedPreparation":
        """Return the part that gives just these columns; its `input_schema` says which raw ones that takes.

        Raises:
            SchemaError: one of them is not given.
        """
        wanted = set(Schema(self.output_schema.columns).select(tuple(names)).names)
        vectors = tuple((name, vector) for name, vector in self.plan.vectors if name in wanted)
        needed = wanted | {part for _, vector in vectors for part in vector.columns}
        chains = tuple(chain for chain in self.plan.chains if needed & {chain.name, chain.missing})
        part = replace(
            self.plan,
            chains=chains,
            vectors=vectors,
            passed=tuple(column for column in self.plan.passed if column.name in wanted),
            hidden=frozenset(_names(chains)) - wanted,
        )
        return FittedPreparation(part, self.fitted_on)

    @cached_property
    def digest(self) -> str:
        """The digest of what it does and of the rows that it learned from; where they lie does not count."""
        return digest_json(self._fields())

    def _fields(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "declared": self.plan.declared,
            "chains": [
                {"column": _column_form(chain.column), "operators": [to_form(each) for each in chain.operators]}
                for chain in self.plan.chains
            ],
            "vectors": [
                {"name": name, "columns": list(vector.columns), "keep": vector.keep}
                for name, vector in self.plan.vectors
            ],
            "passed": [_column_form(column) for column in self.plan.passed],
            "fitted_on": None if self.fitted_on is None else self.fitted_on.digest,
        }

    def to_json(self) -> str:
        """Return it as JSON for people, with its digest, the declaration, and the rows that it learned from."""
        return pretty({**self._fields(), "fitted_on": self.fitted_on, "digest": self.digest}) + "\n"

    @staticmethod
    def from_json(text: str | bytes) -> "FittedPreparation":
        """Read what `to_json` wrote.

        Raises:
            UnsupportedError: it is of a later format, or has an operator of a later shoal.
            CorruptError: it was changed, or is no preparation.
        """
        try:
            fields = decode(text, dict[str, Any])
            if fields.get("format") != FORMAT:
                raise UnsupportedError(
                    f"cannot read a preparation of format {fields.get('format')!r}: this shoal reads {FORMAT}",
                    next_step="read it with a newer shoal, or fit the preparation again",
                )
            found = _from_fields(fields)
        except (InputError, SchemaError, KeyError, TypeError) as error:
            raise CorruptError(
                f"cannot read a preparation: {error}", next_step="restore the file, or fit the preparation again"
            ) from error
        if found.digest != fields.get("digest"):
            raise CorruptError(
                f"the preparation was changed: its digest is {found.digest}, it says {fields.get('digest')}",
                next_step="restore the file, or fit the preparation again",
            )
        return found

    def to_onnx(self, *, opset: int = 18, ir_version: int = 10) -> "onnx.ModelProto":
        """Return a graph that computes the prepared columns from raw ones, with standard operators alone.

        Inputs bear the raw columns' names (and "<name>_mask" where values may be missing and are filled); outputs are
        called "prepared.<name>". A column that passes is an input and an output; its mask is neither.
        """
        from shoal.data.prepare.onnx_graph import OnnxGraph  # onnx is weight that only exporting needs

        graph = OnnxGraph(opset=opset, ir_version=ir_version)
        wires: dict[str, Wires] = {}
        for chain in self.plan.chains:
            mask = graph.input(f"{chain.name}_mask", "bool", ()) if chain.takes_mask else None
            values = graph.input(chain.name, chain.column.dtype, chain.column.shape)
            wires |= dict(chain.write(graph, values, mask))
        for column in self.plan.passed:
            values = graph.input(column.name, column.dtype, column.shape)
            wires[column.name] = Wires(graph.add("Identity", values), column.dtype, shape=column.shape)
        for name, vector in self.plan.vectors:
            wires[name] = vector.write(graph, wires)
        for column in self.output_schema.columns:
            graph.output(f"{PREPARED}{column.name}", wires[column.name].values, column.dtype, column.shape)
        return graph.model()


PREPARED = "prepared."


def _names(chains: Sequence[Chain]) -> list[str]:
    return [column.name for chain in chains for column in chain.outputs()]


def _column_form(column: Column) -> dict[str, Json]:
    return {
        "name": column.name,
        "dtype": column.dtype,
        "shape": list(column.shape),
        "nullable": column.nullable,
        "is_list": column.is_list,
    }


def _from_fields(fields: dict[str, Any]) -> FittedPreparation:
    chains = tuple(
        Chain(decode(encode(each["column"]), Column), tuple(from_form(form) for form in each["operators"]))
        for each in fields["chains"]
    )
    vectors = tuple((each["name"], Concatenate(tuple(each["columns"]), each["keep"])) for each in fields["vectors"])
    passed = tuple(decode(encode(each), Column) for each in fields["passed"])
    source = None if fields["fitted_on"] is None else decode(encode(fields["fitted_on"]), FittedOn)
    return FittedPreparation(Plan(chains, vectors, passed, fields["declared"]), source)
