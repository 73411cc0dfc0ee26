"""Columns and their types: the closed set that a dataset stores, and how Arrow's wider world maps onto it."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from shoal.base import InputError, SchemaError

# Arrow is loaded by the functions that speak of its types: whoever reads rows from a folder needs none of them.
if TYPE_CHECKING:
    import pyarrow as pa

HASH_COLUMN = "_hash"
HASH_SPAN = 2**64
# Said where rows are refused that a dataset could take in with other columns.
EVOLVE_HINT = "; append(..., evolve=True) lets new columns in, and fills missing ones with nulls"
NUMBERS = (
    "int8",
    "int16",
    "int32",
    "int64",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "float16",
    "float32",
    "float64",
)
_TYPES = (*NUMBERS, "bool", "string", "binary", "timestamp")
_TYPE_TEXT = re.compile(r"(?P<dtype>\w+)(\[(?P<inside>any|[1-9]\d*(\s*,\s*[1-9]\d*)*)\])?( or null)?")


@cache
def value_types() -> "dict[str, pa.DataType]":
    """Return the Arrow type of one value for each dtype that a column may have; do not change it."""
    import pyarrow as pa

    # All instants are stored in one unit, so that sources that disagree about it can be appended to each other.
    others = {"bool": pa.bool_(), "string": pa.string(), "binary": pa.binary(), "timestamp": pa.timestamp("us")}
    return {**{name: getattr(pa, name)() for name in NUMBERS}, **others}


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column: `dtype` is a number's name, "bool", "string", "binary" or "timestamp" (microseconds, UTC).

    A `shape` other than () makes every row a tensor of numbers, and `is_list` a list of them, of any length. `nullable`
    says that some row has no value. `id` is the column's number in its dataset, which stays when it is renamed: a
    dataset gives it, and it does not count when columns are compared.
    """

    name: str
    dtype: str
    shape: tuple[int, ...] = ()
    nullable: bool = False
    is_list: bool = False
    id: int | None = field(default=None, compare=False, repr=False)

    @property
    def is_fixed(self) -> bool:
        """Whether each row takes the same number of bytes, so that the column is one NumPy array."""
        return not self.is_list and self.dtype not in ("string", "binary")

    @property
    def companions(self) -> tuple[str, ...]:
        """The names of the arrays that batches may hold beside the column's own."""
        varying = () if self.is_fixed else (f"{self.name}_offsets", f"{self.name}_lengths")
        return (*varying, f"{self.name}_mask") if self.nullable else varying

    @property
    def storage(self) -> tuple[str, tuple[int, ...], bool]:
        """What must agree for rows to stand in one column: type, shape, and whether each row is a list."""
        return self.dtype, self.shape, self.is_list

    @property
    def numpy_dtype(self) -> np.dtype[Any]:
        """The type of the column's NumPy array; text and blobs become Python objects."""
        if not self.is_fixed:
            return np.dtype(object)
        return np.dtype("datetime64[us]" if self.dtype == "timestamp" else self.dtype)

    @property
    def row_bytes(self) -> int:
        """Bytes of one row in memory; for text and blobs the size of their offset alone."""
        return int(self.numpy_dtype.itemsize * np.prod(self.shape, dtype=np.int64))

    def arrow_type(self) -> "pa.DataType":
        """The Arrow type in which the column is stored."""
        import pyarrow as pa

        value = value_types()[self.dtype]
        if self.is_list:
            return pa.list_(value)
        return pa.fixed_shape_tensor(value, self.shape) if self.shape else value

    def __str__(self) -> str:
        shape = "[any]" if self.is_list else f"[{', '.join(map(str, self.shape))}]" if self.shape else ""
        return f"{self.name}: {self.dtype}{shape}{' or null' if self.nullable else ''}"


@dataclass(frozen=True, slots=True)
class Schema:
    """The columns of a dataset version, in order; names are unique."""

    columns: tuple[Column, ...]

    def __post_init__(self) -> None:
        names = self.names
        if HASH_COLUMN in names or len(set(names)) != len(names):
            raise SchemaError(
                f"cannot store columns {', '.join(names)}: names must be unique, and {HASH_COLUMN} is shoal's own",
                next_step="rename the column in the source",
            )
        for column in self.columns:
            for name in column.companions:
                if name in names:
                    raise SchemaError(
                        f"cannot store column {name!r} beside {str(column)!r}: in batches that name belongs to what "
                        f"tells of {column.name!r}",
                        next_step=f"rename {name!r} in the source, or leave it out",
                    )

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all columns, in storage order."""
        return tuple(column.name for column in self.columns)

    def __getitem__(self, name: str) -> Column:
        for column in self.columns:
            if column.name == name:
                return column
        raise SchemaError(
            f"there is no column {name!r}; the columns are {', '.join(self.names)}", next_step="use one of these names"
        )

    def select(self, names: Sequence[str] | None) -> "Schema":
        """Return the schema of just these columns, in the given order; None keeps all."""
        check_names("columns", names)
        return self if names is None else Schema(tuple(self[name] for name in names))

    def arrow(self) -> "pa.Schema":
        """The equivalent `pyarrow.Schema`."""
        import pyarrow as pa

        return pa.schema([pa.field(c.name, c.arrow_type(), nullable=c.nullable) for c in self.columns])

    def widened(self, other: "Schema", *, hint: str = "") -> "Schema":
        """Return this schema with every column nullable that is so in either.

        Args:
            other: the columns that should be the same.
            hint: another way out, said behind the next step.

        Raises:
            SchemaError: a name, type or shape differs; the message lists both sides.
        """
        theirs = {column.name: column for column in other.columns}
        if {c.name: c.storage for c in self.columns} != {name: c.storage for name, c in theirs.items()}:
            mine = {str(replace(c, nullable=False)) for c in self.columns}
            found = {str(replace(c, nullable=False)) for c in other.columns}
            raise SchemaError(
                f"the columns differ: found {sorted(found - mine)} where {sorted(mine - found)} is expected",
                next_step=f"rename or convert the source's columns to the expected names and types{hint}",
            )
        return Schema(tuple(replace(c, nullable=c.nullable or theirs[c.name].nullable) for c in self.columns))


def check_names(argument: str, names: object) -> None:
    """Return when an argument is a list of names, or None.

    Raises:
        InputError: it is one name, which Python would take for a list of its characters, or something else.
    """
    if isinstance(names, str | bytes) or not (names is None or isinstance(names, Iterable)):
        raise InputError(
            f"{argument}={names!r} must be a list of names",
            next_step=f"use {argument}=[{names!r}]" if isinstance(names, str) else "give names as text, in a list",
        )


def parse_column(name: str, text: str) -> Column:
    """Read a nullable column's type as a column prints it: "int64", "string", "float32[28, 28]", "float32[any]".

    Raises:
        SchemaError: there is no such type; the message lists those that there are.
    """
    match = _TYPE_TEXT.fullmatch(text.strip())
    if match is None or match["dtype"] not in _TYPES or (match["inside"] and match["dtype"] not in NUMBERS):
        raise SchemaError(
            f"cannot make column {name!r} of type {text!r}: the types are {', '.join(_TYPES)}, and for numbers a "
            "shape as in float32[28, 28], or [any]",
            next_step="use one of these",
        )
    inside = match["inside"] or ""
    shape = () if inside in ("", "any") else tuple(int(size) for size in inside.split(","))
    return Column(name=name, dtype=match["dtype"], shape=shape, nullable=True, is_list=inside == "any")


def schema_from_arrow(schema: "pa.Schema") -> Schema:
    """Map an Arrow schema onto shoal's columns; whether a column holds nulls is not known yet, so it is not nullable.

    Raises:
        SchemaError: a type has no counterpart; the message names the column.
    """
    return Schema(tuple(_column(field.name, field.type) for field in schema))


def _column(name: str, arrow_type: "pa.DataType") -> Column:
    import pyarrow as pa

    shape: list[int] = []
    value = arrow_type
    if isinstance(value, pa.DictionaryType):
        value = value.value_type
    is_list = pa.types.is_list(value) or pa.types.is_large_list(value)
    if is_list:
        value = value.value_type
    if isinstance(value, pa.FixedShapeTensorType):
        # A permutation means that the values lie in another order than the shape says: refused below, never ignored.
        is_plain = list(value.permutation or range(len(value.shape))) == list(range(len(value.shape)))
        shape, value = list(value.shape) if is_plain else [0], value.value_type
    while pa.types.is_fixed_size_list(value):
        shape.append(value.list_size)
        value = value.value_type
    dtype = _dtype_name(value)
    # Lists of lists, and lists of tensors, have no counterpart: only numbers stand in either.
    if dtype is None or 0 in shape or ((shape or is_list) and dtype not in NUMBERS) or (shape and is_list):
        raise SchemaError(
            f"cannot store column {name!r} of Arrow type {arrow_type}: expected numbers, text, blobs, instants, "
            "booleans or tensors of numbers (not empty, row by row)",
            next_step=f"convert column {name!r} in the source, or leave it out",
        )
    return Column(name=name, dtype=dtype, shape=tuple(shape), is_list=is_list)


def _dtype_name(value: "pa.DataType") -> str | None:
    import pyarrow as pa

    types = pa.types
    if types.is_string(value) or types.is_large_string(value) or types.is_string_view(value):
        return "string"
    if types.is_binary(value) or types.is_large_binary(value) or types.is_binary_view(value):
        return "binary"
    if types.is_fixed_size_binary(value):
        return "binary"
    if types.is_timestamp(value) or types.is_date(value):
        return "timestamp"
    return next((name for name, known in value_types().items() if known.equals(value)), None)
