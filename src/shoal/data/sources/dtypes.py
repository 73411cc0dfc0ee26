"""Types of columns in text: the names users write, what is inferred, and the narrowest type that holds two others."""

from collections.abc import Mapping

import pyarrow as pa

from shoal.base import InputError
from shoal.data.schema import value_types

INSTANT = pa.timestamp("us")
ZONED_INSTANT = pa.timestamp("us", "UTC")
_NAMED = value_types()

Dtypes = Mapping[str, str | pa.DataType]


def declared_types(dtypes: Dtypes | None) -> dict[str, pa.DataType]:
    """Turn what a user declares into Arrow types.

    Raises:
        InputError: a name is no dtype.
    """
    found = {}
    for column, dtype in (dtypes or {}).items():
        if not isinstance(dtype, pa.DataType) and dtype not in _NAMED:
            raise InputError(
                f"dtypes[{column!r}]={dtype!r} must be one of {', '.join(_NAMED)}", next_step="choose one of them"
            )
        found[column] = dtype if isinstance(dtype, pa.DataType) else _NAMED[dtype]
    return found


def dtype_text(kind: pa.DataType) -> str:
    """Return what users call an Arrow type: "float64", where Arrow says "double"."""
    return next((name for name, known in _NAMED.items() if known.equals(kind)), str(kind))


def joined_schema(first: pa.Schema, second: pa.Schema, *, mixed: pa.DataType | None = None) -> pa.Schema:
    """Return the columns of both, each with the narrowest type that holds both; `mixed` is for those that none holds.

    Without `mixed` the first type stays, and values of the other kind are bad ones.
    """
    theirs = {field.name: field.type for field in second}
    fields = [
        pa.field(field.name, joined_type(field.type, theirs.get(field.name, field.type), mixed)) for field in first
    ]
    return pa.schema(fields + [field for field in second if field.name not in set(first.names)])


def joined_type(first: pa.DataType, second: pa.DataType, mixed: pa.DataType | None = None) -> pa.DataType:
    """Return the narrowest type that holds the values of both."""
    if first.equals(second) or pa.types.is_null(second):
        return first
    if pa.types.is_null(first):
        return second
    if {first, second} == {pa.int64(), pa.float64()}:
        return pa.float64()
    if pa.types.is_struct(first) and pa.types.is_struct(second):
        return pa.struct(joined_schema(pa.schema(list(first)), pa.schema(list(second)), mixed=mixed))
    if pa.types.is_list(first) and pa.types.is_list(second):
        return pa.list_(joined_type(first.value_type, second.value_type, mixed))
    if mixed is None and pa.string() in (first, second) and INSTANT in (first, second):
        return pa.string()
    return first if mixed is None else mixed
