"""Arrow arrays to NumPy and back, one canonical form each: equal values always give equal bytes in a shard."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from shoal.base import SchemaError
from shoal.data.layout import Layout
from shoal.data.schema import Column, Schema, schema_from_arrow

Values = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Decoded:
    """A column as NumPy: `values` [num_rows, *shape]; `valid` bool [num_rows], or None when no row is null.

    Null rows hold zeros (None for text and blobs).
    """

    values: Values
    valid: NDArray[np.bool_] | None


def conform(batch: pa.RecordBatch, schema: Schema, layout: Layout | None = None) -> pa.RecordBatch:
    """Return the batch with the schema's columns in its order and its types.

    Args:
        batch: has them, perhaps among others, perhaps of types that can be converted.
        schema: the columns that are wanted.
        layout: under which names the batch holds them, for a batch that was stored before they changed: a column that
            it lacks is null in every row. None: under their own names, all of them.

    Raises:
        SchemaError: a column is missing, of another type, or a value does not fit; the message names it.
    """
    arrays = [conform_array(stored_column(batch, column, layout), column) for column in schema.columns]
    fields = [pa.field(column.name, column.arrow_type()) for column in schema.columns]
    return pa.RecordBatch.from_arrays(arrays, schema=pa.schema(fields))


def stored_column(batch: pa.RecordBatch, column: Column, layout: Layout | None) -> pa.Array:
    """Return a column as a batch holds it, found by its id; nulls where the batch was stored before it came."""
    name = layout.name_of(column) if layout is not None else column.name
    return batch.column(name) if name is not None else pa.nulls(batch.num_rows, column.arrow_type())


def conform_array(array: pa.Array, column: Column) -> pa.Array:
    """Return one column of a batch in the type that shoal stores it in; SchemaError as `conform`."""
    target = column.arrow_type()
    if array.type.equals(target):
        return array
    try:
        if isinstance(array.type, pa.DictionaryType):
            array = array.dictionary_decode()
        if column.shape:
            # Read as what it is: a column may have been widened since the batch was stored.
            stored = decode(array, schema_from_arrow(pa.schema([pa.field(column.name, array.type)])).columns[0])
            values = stored.values.astype(column.numpy_dtype, casting="safe", copy=False)
            return encode(Decoded(values, stored.valid), column)
        return array.cast(target)
    except pa.ArrowInvalid as error:
        raise SchemaError(
            f"cannot convert column {column.name!r} from {array.type} to {target}: {error}",
            next_step=f"correct the values of {column.name!r} in the source",
        ) from error


def decode(array: pa.Array, column: Column) -> Decoded:
    """Return an Arrow array as NumPy, without a copy where every row has a value and takes the same bytes."""
    valid = None if array.null_count == 0 else array.is_valid().to_numpy(zero_copy_only=False)
    if column.shape:
        values = _tensor_values(array, column)
    elif not column.is_fixed or column.dtype == "bool":
        filled = array.fill_null(False) if column.dtype == "bool" and valid is not None else array
        return Decoded(filled.to_numpy(zero_copy_only=False), valid)
    else:
        plain = array.view(pa.int64()) if column.dtype == "timestamp" else array
        width = column.numpy_dtype.itemsize
        buffer = plain.buffers()[1]
        # Straight from the buffer: Arrow's own conversion turns integers with nulls into floats.
        values = np.frombuffer(buffer or b"", column.numpy_dtype, len(plain), plain.offset * width if buffer else 0)
    if valid is None:
        return Decoded(values, None)
    values = values.copy()
    values[~valid] = 0
    return Decoded(values, valid)


def _tensor_values(array: pa.Array, column: Column) -> Values:
    storage = array.storage if isinstance(array, pa.ExtensionArray) else array
    start, num_rows, size = 0, len(storage), 1
    while pa.types.is_fixed_size_list(storage.type):
        # `.values` ignores the slice that `storage` may be, and `.flatten()` would drop the rows that are null.
        start = (start + storage.offset) * storage.type.list_size
        size *= storage.type.list_size
        storage = storage.values
    flat = np.frombuffer(storage.buffers()[1] or b"", column.numpy_dtype)
    first = start + storage.offset
    return flat[first : first + num_rows * size].reshape(num_rows, *column.shape)


def encode(decoded: Decoded, column: Column) -> pa.Array:
    """Return NumPy values as the Arrow array that a shard stores, sharing their memory where it can."""
    valid = decoded.valid if decoded.valid is not None and not decoded.valid.all() else None
    if not column.is_fixed:
        return pa.array(decoded.values.tolist(), type=column.arrow_type())
    if column.dtype == "bool":
        return pa.array(decoded.values, mask=None if valid is None else ~valid)
    bitmap = None if valid is None else pa.py_buffer(np.packbits(valid, bitorder="little").tobytes())
    num_rows = len(decoded.values)
    values = np.ascontiguousarray(decoded.values)
    data = pa.py_buffer(values.reshape(-1).view(np.uint8) if values.size else b"")
    if not column.shape:
        return pa.Array.from_buffers(column.arrow_type(), num_rows, [bitmap, data])
    tensor = column.arrow_type()
    flat = pa.Array.from_buffers(tensor.value_type, values.size, [None, data])
    storage = pa.Array.from_buffers(tensor.storage_type, num_rows, [bitmap], children=[flat])
    return pa.ExtensionArray.from_storage(tensor, storage)


def from_numpy(values: Values) -> pa.Array:
    """Return one-dimensional numbers as an Arrow array that shares their memory.

    Arrow's own conversions do the same, and load pandas first where it is installed: a second, for nothing.
    """
    return encode(Decoded(values, None), Column(name="", dtype=values.dtype.name))


def to_numpy(array: pa.Array) -> Values:
    """Return an Arrow array of whole numbers without nulls as NumPy, without a copy; see `from_numpy`."""
    return decode(array, Column(name="", dtype=str(array.type))).values


def reordered(array: pa.Array, column: Column, order: NDArray[np.int64]) -> pa.Array:
    """Return the array's rows in the given order, in canonical form."""
    if column.is_fixed:
        decoded = decode(array, column)
        valid = None if decoded.valid is None else decoded.valid.take(order)
        return encode(Decoded(decoded.values.take(order, axis=0), valid), column)
    taken = array.take(from_numpy(order))
    # Without this a column that lost its last null keeps an all-ones bitmap: same values, other bytes.
    if taken.null_count == 0 and taken.buffers()[0] is not None:
        return pa.Array.from_buffers(taken.type, len(taken), [None, *taken.buffers()[1:]], offset=taken.offset)
    return taken
