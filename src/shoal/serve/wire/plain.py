"""Plain JSON: named fields in, named outputs out, for people with curl and programs that think in rows.

`{"image": [[...]]}` is one row, `{"rows": [{"age": 3, "city": "x"}, ...]}` are several. The same values are taken as by
the Open Inference Protocol; and null says that a row has no value, where the model has a mask beside the field or
fills NaN itself.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import nan, prod
from typing import Any

import msgspec
import numpy as np

from shoal.serve.wire.interface import Interface, TensorField
from shoal.serve.wire.outputs import RequestOutputs
from shoal.serve.wire.plain_json import decode_object, in_words
from shoal.serve.wire.protocol import AnswerWriter, Encoded, InferAnswer, InferCall, not_finite
from shoal.serve.wire.refusal import RefusedError, shorten, wrong_field
from shoal.serve.wire.tensors import Array, Family, from_numbers

_ENCODER = msgspec.json.Encoder()
_ROWS = "rows"
_MASK = "_mask"
_TAKEN: dict[Family, frozenset[type]] = {
    bool: frozenset({bool}),
    int: frozenset({int}),
    float: frozenset({int, float}),
    str: frozenset({str}),
}
_BLANK: dict[Family, Any] = {bool: False, int: 0, float: 0.0, str: ""}
_ABOUT = ("prediction_id", "model", "version")


@dataclass(frozen=True, slots=True)
class PlainField:
    """One field of a row.

    Attributes:
        place: of the input among the interface's.
        name: of the input.
        tensor: the input itself.
        shape: of one row's value; () for a single value, None where any size >= 1 goes.
        mask: place of the input that tells which rows have a value; None where no input does.
    """

    place: int
    name: str
    tensor: TensorField
    shape: tuple[int | None, ...]
    mask: int | None

    @property
    def is_nullable(self) -> bool:
        """Whether a row may have no value: a mask tells so, or NaN that the model fills."""
        return self.mask is not None or (self.tensor.fills_nan and None not in self.shape)

    @property
    def blank(self) -> Any:  # noqa: ANN401  # any JSON
        """A value of zeros or empty texts; one where the request chooses the size."""
        return self._full_of(_BLANK[self.tensor.type.family])

    @property
    def missing(self) -> Any:  # noqa: ANN401  # any JSON, and NaN
        """What goes to the model for a row without a value: behind a mask it does not matter, else it is NaN."""
        return self.blank if self.mask is not None else self._full_of(nan)

    @property
    def expected(self) -> str:
        """What one row's value must be, in words."""
        what = f"{self.tensor.datatype}: {self.tensor.type.values}"
        if self.shape:
            sizes = ["any" if size is None else str(size) for size in self.shape]
            what = f"lists of shape [{', '.join(sizes)}] of {what}"
        return f"{what}, or null for no value" if self.is_nullable else what

    def _full_of(self, value: object) -> Any:  # noqa: ANN401  # any JSON
        return np.full([size or 1 for size in self.shape], value).tolist()


class PlainForm:
    """Reads and writes plain JSON for one version of one model. Stateless after construction; any thread may use it.

    Attributes:
        fields: what a row holds, in the order of the interface.
        has_rows: whether the first dimension counts rows; where it does not, a request is the whole of the inputs.
        takes_list: whether {"rows": [...]} is taken; not where the model has an input of that very name.
        output_names: what the outputs are called in an answer, in the order of the interface.
    """

    def __init__(self, interface: Interface) -> None:
        self.interface = interface
        # A model exported for one row has rows too: one in each request.
        self.has_rows = interface.batched or all(
            field.shape[:1] == (1,) for field in (*interface.inputs, *interface.outputs)
        )
        self.fields = _fields_of(interface, has_rows=self.has_rows)
        self.output_names = tuple(
            f"outputs.{field.name}" if field.name in _ABOUT else field.name for field in interface.outputs
        )
        self._names = {field.name for field in self.fields}
        self.takes_list = _ROWS not in self._names

    def decode(self, body: bytes) -> InferCall:
        """Read a request's body.

        Raises:
            RefusedError: 400, with the field, what was found and what was expected.
        """
        given = decode_object(body, expected=self.example_text())
        is_list = self.takes_list and _ROWS in given
        rows = self._listed(given) if is_list else [given]
        for number, row in enumerate(rows):
            if row.keys() != self._names:
                raise self._wrong_names(row, f"{_ROWS}[{number}]." if is_list else "")
        arrays: dict[int, Array] = {}
        for field in self.fields:
            self._read(field, [row[field.name] for row in rows], arrays, is_list=is_list)
        return InferCall(
            None,
            tuple(arrays[place] for place in range(len(arrays))),
            len(rows) if self.interface.batched else 1,
            PlainAnswer(self, is_list=is_list),
        )

    def example(self) -> dict[str, Any]:
        """A row of zeros and empty texts, small where the request chooses the size."""
        return {field.name: field.blank for field in self.fields}

    def example_text(self) -> str:
        """What a body looks like, in words."""
        inner = ", ".join(f'"{field.name}": {"[...]" if field.shape else "..."}' for field in self.fields)
        return f"a JSON object like {{{inner}}}" + (f' or {{"rows": [{{{inner}}}, ...]}}' if self.takes_list else "")

    def _listed(self, given: Mapping[str, Any]) -> list[dict[str, Any]]:
        rows: Any = given[_ROWS]
        if (other := next((name for name in given if name != _ROWS), None)) is not None:
            raise wrong_field(
                shorten(other) or repr(other),
                found="a field beside rows",
                expected="rows alone, or one row's fields alone",
            )
        if type(rows) is not list or not rows:
            raise wrong_field(_ROWS, found=in_words(rows), expected="a list of at least one object, each a row")
        if not self.interface.batched and len(rows) > 1:
            raise wrong_field(_ROWS, found=f"{len(rows)} rows", expected="1 row: this model takes one at a time")
        for number, row in enumerate(rows):
            if type(row) is not dict:
                raise wrong_field(
                    f"{_ROWS}[{number}]", found=in_words(row), expected=f"an object of {self._listed_names()}"
                )
        return rows

    def _wrong_names(self, row: Mapping[str, Any], prefix: str) -> RefusedError:
        for name in row:
            if name not in self._names:
                return wrong_field(
                    f"{prefix}{shorten(name) or repr(name)}",
                    found="a field that the model does not have",
                    expected=f"the fields {self._listed_names()}",
                    next_step=f"leave it out; the fields are {self._listed_names()}",
                )
        field = next(field for field in self.fields if field.name not in row)
        return wrong_field(f"{prefix}{field.name}", found="no such field", expected=field.expected)

    def _listed_names(self) -> str:
        return ", ".join(field.name for field in self.fields)

    def _read(self, field: PlainField, values: list[Any], arrays: dict[int, Array], *, is_list: bool) -> None:
        """Put a field's values of all rows into `arrays`, and its mask where it has one."""
        lead: tuple[int, ...] = (len(values),) if self.has_rows else ()
        if field.mask is not None:
            arrays[field.mask] = np.array([value is not None for value in values], np.bool_)
        if field.is_nullable and None in values:
            missing = field.missing
            values = [missing if value is None else value for value in values]
        flat, sizes = _flatten(field, values, is_list=is_list)
        taken = _TAKEN[field.tensor.type.family]
        if not taken.issuperset(map(type, flat)):
            position = next(place for place, value in enumerate(flat) if type(value) not in taken)
            raise wrong_field(
                _where(field, position, sizes, is_list=is_list),
                found=in_words(flat[position]),
                expected=field.expected,
            )
        array = from_numbers(flat, field.tensor.type, lambda position: _where(field, position, sizes, is_list=is_list))
        arrays[field.place] = array.reshape((*lead, *sizes))


@dataclass(frozen=True, slots=True)
class PlainAnswer(AnswerWriter):
    """How a plain request is answered: an object, or a list of one object for each row."""

    form: PlainForm
    is_list: bool

    def encode(self, answer: InferAnswer, outputs: RequestOutputs) -> Encoded:
        """Write the response's body.

        Raises:
            RefusedError: 422, an output is not finite.
        """
        columns: list[list[Any]] = []
        for place, field in enumerate(self.form.interface.outputs):
            if not outputs.is_finite(place):
                raise not_finite(field.name, "send another input, or ask /v2/models/NAME/infer for binary output")
            values = outputs.array(place).tolist()
            columns.append(values if self.form.has_rows else [values])
        prefix, _, first = answer.parameters["prediction_id"].rpartition(".")
        rows = [
            {
                "prediction_id": f"{prefix}.{int(first) + number}",
                "model": answer.model_name,
                "version": answer.model_version,
                **dict(zip(self.form.output_names, row, strict=True)),
            }
            for number, row in enumerate(zip(*columns, strict=True))
        ]
        return _ENCODER.encode(rows if self.is_list else rows[0]), None


def _fields_of(interface: Interface, *, has_rows: bool) -> tuple[PlainField, ...]:
    # As `Signature.masked` has it: a mask is a flag for each row, named after the field that it tells about.
    flags = {
        field.name: place
        for place, field in enumerate(interface.inputs)
        if has_rows and field.datatype == "BOOL" and len(field.shape) == 1
    }
    masks = {
        field.name: flags[f"{field.name}{_MASK}"]
        for field in interface.inputs
        # What has no value still needs a place of a certain size in the batch.
        if f"{field.name}{_MASK}" in flags and None not in field.shape[1:]
    }
    return tuple(
        PlainField(place, field.name, field, field.shape[1:] if has_rows else field.shape, masks.get(field.name))
        for place, field in enumerate(interface.inputs)
        if place not in masks.values()
    )


def _flatten(field: PlainField, values: list[Any], *, is_list: bool) -> tuple[list[Any], tuple[int, ...]]:
    """All rows' single values as one list, and the sizes of a row; the first row chooses those that are free."""
    sizes: tuple[int, ...] = ()
    for wanted in field.shape:
        for position, inner in enumerate(values):
            if type(inner) is not list:
                raise wrong_field(
                    _where(field, position, sizes, is_list=is_list), found=in_words(inner), expected=field.expected
                )
        size = wanted if wanted is not None else max(1, len(values[0]) if values else 1)
        lengths = set(map(len, values))
        if lengths - {size}:
            position = next(place for place, inner in enumerate(values) if len(inner) != size)
            raise wrong_field(
                _where(field, position, sizes, is_list=is_list),
                found=f"a list of {len(values[position])}",
                expected=f"a list of {size}" + ("" if wanted is not None else ", as in the first row"),
            )
        values = list(itertools.chain.from_iterable(values))
        sizes = (*sizes, size)
    return values, sizes


def _where(field: PlainField, position: int, sizes: Sequence[int], *, is_list: bool) -> str:
    """The name of the value at a flat position, such as rows[3].image[0][27]."""
    row, position = divmod(position, max(1, prod(sizes)))
    indices: list[int] = []
    for size in reversed(sizes):
        position, index = divmod(position, max(1, size))
        indices.append(index)
    inner = "".join(f"[{index}]" for index in reversed(indices))
    return f"{_ROWS}[{row}].{field.name}{inner}" if is_list else f"{field.name}{inner}"
