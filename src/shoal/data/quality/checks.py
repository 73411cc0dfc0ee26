"""Checks of values, each a pure function of a batch: which of its rows break the rule."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from shoal.base import InputError, SchemaError
from shoal.data.comparison import COMPARISONS, among, compared, is_numeric

Bad = NDArray[np.bool_]


class Check(Protocol):
    """A rule that each row keeps or breaks, whatever the other rows are. Any thread or process may ask it."""

    @property
    def column(self) -> str | None:
        """The column that it is about; None for the whole row."""
        ...

    @property
    def expected(self) -> str:
        """What a good value is, in words that complete "expected ..."."""
        ...

    def violations(self, batch: pa.RecordBatch) -> Bad:
        """Return bool [num_rows]: the rows that break the rule."""
        ...


@dataclass(frozen=True, slots=True)
class NotNull:
    """Every row has a value; NaN is one."""

    column: str

    @property
    def expected(self) -> str:
        """What a good value is."""
        return "a value"

    def violations(self, batch: pa.RecordBatch) -> Bad:
        """Return the rows without a value."""
        return _bools(batch.column(self.column).is_null())


@dataclass(frozen=True, slots=True)
class Range:
    """Values lie from `minimum` to `maximum`, both included; NaN lies nowhere, and a null keeps the rule.

    For numbers, text and instants. Of a tensor or a list, every number must lie there.
    """

    column: str
    minimum: Any = None
    maximum: Any = None

    def __post_init__(self) -> None:
        if self.minimum is None and self.maximum is None:
            raise InputError(f"Range({self.column!r}) has no border", next_step="give minimum, maximum or both")

    @property
    def expected(self) -> str:
        """What a good value is."""
        if self.minimum is None:
            return f"at most {self.maximum}"
        return f"at least {self.minimum}" if self.maximum is None else f"from {self.minimum} to {self.maximum}"

    def violations(self, batch: pa.RecordBatch) -> Bad:
        """Return the rows with a value outside."""
        return _any_inside(batch.column(self.column), self._outside)

    def _outside(self, array: pa.Array) -> pa.Array:
        inside = []
        if self.minimum is not None:
            inside.append(_compared(array, ">=", self.minimum, self.column))
        if self.maximum is not None:
            inside.append(_compared(array, "<=", self.maximum, self.column))
        return pc.invert(inside[0] if len(inside) == 1 else pc.and_(*inside))


@dataclass(frozen=True, slots=True)
class Allowed:
    """Values are among those given; a null keeps the rule."""

    column: str
    values: Sequence[Any]

    @property
    def expected(self) -> str:
        """What a good value is."""
        shown = ", ".join(repr(value) for value in self.values[:10])
        return f"one of {shown}{', ...' if len(self.values) > 10 else ''}"  # what fits a line

    def violations(self, batch: pa.RecordBatch) -> Bad:
        """Return the rows with another value."""
        array = batch.column(self.column)
        numbers = [_number(value) for value in self.values]
        if is_numeric(array.type) and None not in numbers:
            return _bools(pc.invert(among(array, [number for number in numbers if number is not None])))
        try:
            allowed = pa.array(list(self.values), array.type)
        except (pa.ArrowException, TypeError) as error:
            raise _not_of_type(self.column, array.type, error) from error
        return _bools(pc.and_(array.is_valid(), pc.invert(pc.is_in(array, value_set=allowed))))


@dataclass(frozen=True, slots=True)
class Matches:
    """Text matches a regular expression (RE2) from its first character to its last; a null keeps the rule."""

    column: str
    pattern: str

    @property
    def expected(self) -> str:
        """What a good value is."""
        return f"text that matches {self.pattern!r}"

    def violations(self, batch: pa.RecordBatch) -> Bad:
        """Return the rows whose text does not match."""
        array = batch.column(self.column)
        try:
            found = pc.match_substring_regex(array, rf"\A(?:{self.pattern})\z")
        except (pa.ArrowException, TypeError) as error:
            raise SchemaError(
                f"cannot match column {self.column!r} of type {array.type} with {self.pattern!r}: {error}",
                next_step="give a regular expression in RE2's syntax, for a column of text",
            ) from error
        return _bools(pc.invert(found))


@dataclass(frozen=True, slots=True)
class Length:
    """Texts, blobs and lists have from `minimum` to `maximum` characters, bytes or items; a null keeps the rule."""

    column: str
    minimum: int = 0
    maximum: int | None = None

    @property
    def expected(self) -> str:
        """What a good value is."""
        if self.maximum is None:
            return f"a length of at least {self.minimum}"
        return f"a length from {self.minimum} to {self.maximum}"

    def violations(self, batch: pa.RecordBatch) -> Bad:
        """Return the rows whose value is shorter or longer."""
        array = batch.column(self.column)
        types = pa.types
        if types.is_string(array.type):
            lengths = pc.utf8_length(array)
        elif types.is_binary(array.type):
            lengths = pc.binary_length(array)
        elif types.is_list(array.type):
            lengths = pc.list_value_length(array)
        else:
            raise SchemaError(
                f"cannot check the length of column {self.column!r}: its type is {array.type}",
                next_step="check the length of text, blobs or lists; tensors have the shape that is declared",
            )
        bad = pc.less(lengths, self.minimum)
        return _bools(bad if self.maximum is None else pc.or_(bad, pc.greater(lengths, self.maximum)))


@dataclass(frozen=True, slots=True)
class Where:
    """Rows for which a function of your own says True.

    `function` gets a `pyarrow.RecordBatch` and returns one bool per row (NumPy or Arrow; a null counts as False). It
    must judge each row by itself, as batches are cut anywhere. `expected` says in words what it wants.
    """

    function: Callable[[pa.RecordBatch], Any]
    expected: str
    column: str | None = None

    def violations(self, batch: pa.RecordBatch) -> Bad:
        """Return the rows for which the function does not say True."""
        found = self.function(batch)
        good = (
            np.asarray(found) if not isinstance(found, pa.Array | pa.ChunkedArray) else ~_bools(pc.invert(found), True)
        )
        if good.dtype != np.bool_ or good.shape != (batch.num_rows,):
            raise InputError(
                f"the check that rows have {self.expected} gave {good.dtype} of shape {good.shape} for "
                f"{batch.num_rows} rows",
                next_step="return one bool per row of the batch",
            )
        return ~good


def _any_inside(array: pa.Array, outside: Callable[[pa.Array], pa.Array]) -> Bad:
    types = pa.types
    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    if not (types.is_list(array.type) or types.is_fixed_size_list(array.type)):
        return _bools(outside(array))
    rows = pc.list_parent_indices(array).to_numpy()
    bad = np.zeros(len(array), np.bool_)
    bad[rows[_any_inside(pc.list_flatten(array), outside)]] = True
    return bad


def _bools(array: pa.Array, null: bool = False) -> Bad:  # what a null counts as
    found: Bad = array.fill_null(null).to_numpy(zero_copy_only=False)
    return found


def _compared(array: pa.Array, comparison: str, border: object, column: str) -> pa.Array:
    number = _number(border)
    if number is not None and is_numeric(array.type):
        return compared(array, comparison, number)
    try:
        scalar = pa.scalar(str(border)).cast(array.type) if isinstance(border, str) else pa.scalar(border, array.type)
        return COMPARISONS[comparison](array, scalar)
    except (pa.ArrowException, TypeError, OverflowError) as error:
        raise _not_of_type(column, array.type, error) from error


def _number(value: object) -> int | float | None:
    plain = value.item() if isinstance(value, np.number) else value
    return plain if isinstance(plain, int | float) and not isinstance(plain, bool) else None


def _not_of_type(column: str, arrow_type: pa.DataType, error: Exception) -> SchemaError:
    return SchemaError(
        f"cannot check column {column!r} of type {arrow_type}: {error}",
        next_step="give the check values of the column's type",
    )
