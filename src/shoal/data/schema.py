"""Columns and their types: the closed set that a dataset stores, and how Arrow's wider world maps onto it."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from shoal.base import SchemaError

HASH_COLUMN = "_hash"
NUMBERS = {
    name: getattr(pa, name)()
    for name in (
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
}
# All instants are stored in one unit, so that sources that disagree about it can be appended to each other.
_OTHERS = {"bool": pa.bool_(), "string": pa.string(), "binary": pa.binary(), "timestamp": pa.timestamp("us")}
_TYPES = {**NUMBERS, **_OTHERS}


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column: `dtype` is a number's name, "bool", "string", "binary" or "timestamp" (microseconds, UTC).

    A `shape` other than () makes every row a tensor of numbers. `nullable` says that some row has no value.
    """

    name: str
    dtype: str
    shape: tuple[int, ...] = ()
    nullable: bool = False

    @property
    def is_fixed(self) -> bool:
        """Whether each row takes the same number of bytes, so that the column is one NumPy array."""
        return self.dtype not in ("string", "binary")

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

    def arrow_type(self) -> pa.DataType:
        """The Arrow type in which the column is stored."""
        value = _TYPES[self.dtype]
        return pa.fixed_shape_tensor(value, self.shape) if self.shape else value

    def __str__(self) -> str:
        shape = f"[{', '.join(map(str, self.shape))}]" if self.shape else ""
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

    def select(self, names: tuple[str, ...] | list[str] | None) -> "Schema":
        """Return the schema of just these columns, in the given order; None keeps all."""
        return self if names is None else Schema(tuple(self[name] for name in names))

    def arrow(self) -> pa.Schema:
        """The equivalent `pyarrow.Schema`."""
        return pa.schema([pa.field(c.name, c.arrow_type(), nullable=c.nullable) for c in self.columns])

    def widened(self, other: "Schema") -> "Schema":
        """Return this schema with every column nullable that is so in either.

        Raises:
            SchemaError: a name, type or shape differs; the message lists both sides.
        """
        theirs = {column.name: column for column in other.columns}
        if {c.name: (c.dtype, c.shape) for c in self.columns} != {n: (c.dtype, c.shape) for n, c in theirs.items()}:
            mine = {str(replace(c, nullable=False)) for c in self.columns}
            found = {str(replace(c, nullable=False)) for c in other.columns}
            raise SchemaError(
                f"the columns differ: found {sorted(found - mine)} where {sorted(mine - found)} is expected",
                next_step="rename or convert the source's columns to the expected names and types",
            )
        return Schema(tuple(replace(c, nullable=c.nullable or theirs[c.name].nullable) for c in self.columns))


def schema_from_arrow(schema: pa.Schema) -> Schema:
    """Map an Arrow schema onto shoal's columns; whether a column holds nulls is not known yet, so it is not nullable.

    Raises:
        SchemaError: a type has no counterpart; the message names the column.
    """
    return Schema(tuple(_column(field.name, field.type) for field in schema))


def _column(name: str, arrow_type: pa.DataType) -> Column:
    shape: list[int] = []
    value = arrow_type
    if isinstance(value, pa.DictionaryType):
        value = value.value_type
    if isinstance(value, pa.FixedShapeTensorType):
        # A permutation means that the values lie in another order than the shape says: refused below, never ignored.
        is_plain = list(value.permutation or range(len(value.shape))) == list(range(len(value.shape)))
        shape, value = list(value.shape) if is_plain else [0], value.value_type
    while pa.types.is_fixed_size_list(value):
        shape.append(value.list_size)
        value = value.value_type
    dtype = _dtype_name(value)
    if dtype is None or 0 in shape or (shape and dtype not in NUMBERS):
        raise SchemaError(
            f"cannot store column {name!r} of Arrow type {arrow_type}: expected numbers, text, blobs, instants, "
            "booleans or tensors of numbers (not empty, row by row)",
            next_step=f"convert column {name!r} in the source, or leave it out",
        )
    return Column(name=name, dtype=dtype, shape=tuple(shape))


def _dtype_name(value: pa.DataType) -> str | None:
    types = pa.types
    if types.is_string(value) or types.is_large_string(value) or types.is_string_view(value):
        return "string"
    if types.is_binary(value) or types.is_large_binary(value) or types.is_binary_view(value):
        return "binary"
    if types.is_fixed_size_binary(value):
        return "binary"
    if types.is_timestamp(value) or types.is_date(value):
        return "timestamp"
    return next((name for name, known in _TYPES.items() if known.equals(value)), None)
