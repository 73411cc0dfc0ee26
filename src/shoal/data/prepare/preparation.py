"""A preparation as it is declared: which columns, and what is done to each; fitting learns the numbers."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from shoal.base import InputError, Json, SchemaError
from shoal.data.prepare.base import Operator
from shoal.data.prepare.batches import Batch, Batches, Rows
from shoal.data.prepare.chain import Chain
from shoal.data.prepare.concatenate import Concatenate
from shoal.data.prepare.fitted import FittedOn, FittedPreparation, Plan
from shoal.data.prepare.fitting import Fitting
from shoal.data.prepare.forms import to_form
from shoal.data.schema import Schema, check_names


@dataclass(frozen=True)
class Preparation:
    """What is done to the columns of every batch, in training and in serving alike.

    `columns` maps a column to its operators, in order, or a new name to a `Concatenate` of prepared columns. Other
    columns pass as they are: all of them, or with `keep` just these; `drop` leaves some out.
    """

    columns: Mapping[str, Sequence[Operator] | Concatenate]
    keep: Sequence[str] | None = None
    drop: Sequence[str] = field(default=())

    def __post_init__(self) -> None:
        columns = {
            name: given if isinstance(given, Concatenate) else tuple(given) for name, given in self.columns.items()
        }
        object.__setattr__(self, "columns", columns)
        check_names("keep", self.keep)
        check_names("drop", self.drop)
        object.__setattr__(self, "keep", None if self.keep is None else tuple(self.keep))
        object.__setattr__(self, "drop", tuple(self.drop))
        if self.keep is not None and self.drop:
            raise InputError(
                f"keep={list(self.keep)} and drop={list(self.drop)} were both given, expected one",
                next_step="name the columns that pass, or those that do not",
            )
        for name, given in columns.items():
            for operator in () if isinstance(given, Concatenate) else given:
                if not isinstance(operator, Operator):
                    raise InputError(
                        f"column {name!r} has {operator!r} among its operators: expected Impute(), Clip(0, 1) and such",
                        next_step="write the operators as values, such as [Impute('median'), Standardise()]",
                    )

    def fit(self, rows: Rows | Iterable[Batch | pa.RecordBatch]) -> FittedPreparation:
        """Learn from rows, and return the preparation that can be applied.

        Memory is bounded: about 1 MiB per learning column of numbers, and the vocabularies. One pass is enough unless
        an operator learns behind one that learned in the same pass to move all values, such as a Bucketise behind a
        Standardise: then each such place takes a pass more. What is learned depends on the set of rows alone, not on
        their order or their batches.

        Args:
            rows: a dataset (its training split!), or batches: arrays by name, with "<name>_mask" where values may be
                missing, or `pyarrow.RecordBatch`. An iterator serves for one pass.

        Raises:
            SchemaError: a column is unknown or of a type that its operators do not take, or has rows without a value
                that nothing fills.
            InputError: a value does not fit, or an iterator is at its end when another pass is due.
        """
        batches = Batches(rows)
        fitting = self.start(batches.schema)
        while isinstance(fitting, Fitting):
            for batch in batches.read(fitting.column_names):
                fitting.update(batch)
            fitting = fitting.finish()
        if not isinstance(rows, Rows):
            return fitting
        return fitting.with_source(FittedOn(address=rows.address, digest=rows.digest, num_rows=rows.num_rows))

    def start(self, schema: Schema) -> "Fitting | FittedPreparation":
        """Begin to learn from rows with these columns, batch by batch: for readers that share the work and merge.

        When no operator has anything to learn, the preparation is ready at once.
        """
        return Fitting.begin(self.plan(schema))

    def plan(self, schema: Schema) -> Plan:
        """Return what would be done to rows with these columns, as far as it is known before learning.

        Raises:
            SchemaError: it cannot be; the message names the column.
        """
        vectors = {name: given for name, given in self.columns.items() if isinstance(given, Concatenate)}
        operators = {name: given for name, given in self.columns.items() if not isinstance(given, Concatenate)}
        for name in (*operators, *(self.keep or ()), *self.drop):
            if name not in schema.names:
                raise SchemaError(
                    f"there is no column {name!r} to prepare, keep or drop; the columns are {', '.join(schema.names)}",
                    next_step="use one of these names",
                )
        chains = tuple(Chain(schema[name], tuple(given)) for name, given in operators.items())
        kept = schema.names if self.keep is None else self.keep
        passed = tuple(schema[name] for name in kept if name not in operators and name not in self.drop)
        return Plan(chains, tuple(vectors.items()), passed, self.to_json())

    def to_json(self) -> dict[str, Json]:
        """Return the declaration as JSON values."""
        columns: list[Json] = []
        for name, given in self.columns.items():
            if isinstance(given, Concatenate):
                columns.append({"name": name, "concatenate": list(given.columns), "keep": given.keep})
            else:
                columns.append({"name": name, "operators": [to_form(operator) for operator in given]})
        return {
            "columns": columns,
            "keep": None if self.keep is None else list(self.keep),
            "drop": list(self.drop),
        }
