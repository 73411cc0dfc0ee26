"""Where Arrow keeps a column of an open record batch, whatever type it was stored in."""

import math
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from shoal.base import CorruptError
from shoal.data.columns import conform_array
from shoal.data.loading.pieces import Kind, Piece
from shoal.data.schema import Column
from shoal.data.storage.chunks import REPAIR
from shoal.data.storage.shard import OpenBatch

_BYTES = np.dtype(np.uint8)


def find_piece(opened: OpenBatch, column: Column, start: int) -> Piece:
    """Return where a column's rows lie from `start` on, without reading them.

    What cannot be indexed as it lies (dictionaries, text with offsets of 64 bits, other units of time) is checked and
    converted into memory. Bitmaps are checked here: they are small, and any row may ask for any of them.

    Raises:
        CorruptError: a bitmap or something that had to be converted is damaged.
    """
    name = opened.layout.name_of(column) if opened.layout is not None else column.name
    if name is None:
        return _absent(column, opened.num_rows - start)
    array = opened.batch.column(name)
    if not _is_indexable(array, column):
        opened.check(array)
        array = conform_array(array, column)
        opened = OpenBatch(opened.batch)
    storage = array.storage if isinstance(array, pa.ExtensionArray) else array
    try:
        # That its buffers are as long as its rows need; Arrow itself does not look when it reads a file.
        storage.validate()
    except pa.ArrowInvalid as error:
        raise CorruptError(f"cannot read column {column.name!r} of a shard: {error}", next_step=REPAIR) from error
    first = storage.offset + start
    buffers = storage.buffers()
    bitmaps = [buffers[0]] if storage.null_count else []
    kind: Kind = "bits" if column.dtype == "bool" else "fixed" if column.is_fixed else "variable"
    if kind == "bits":
        bitmaps.append(buffers[1])
    for bitmap in bitmaps:
        opened.check_buffer(bitmap)
    valid = _as_bytes(buffers[0]) if storage.null_count else None
    if kind == "bits":
        return Piece(kind=kind, dtype=_BYTES, values=_as_bytes(buffers[1]), valid=valid, first_bit=first)
    if kind == "fixed":
        flat, offset, dtype = _flat_numbers(storage, start)
        width = dtype.itemsize * math.prod(column.shape)
        num_rows = len(storage) - start
        values = flat[offset * dtype.itemsize :][: num_rows * width].reshape(num_rows, width)
        return Piece(kind=kind, dtype=dtype, values=values, valid=valid, first_bit=first)
    offsets = _as_bytes(buffers[1]).view(np.int32)[first:] if len(storage) else np.zeros(1, np.int32)
    if not column.is_list:
        return Piece(kind=kind, dtype=_BYTES, values=offsets, items=_as_bytes(buffers[2]), valid=valid, first_bit=first)
    items, offset, dtype = _flat_numbers(storage.values, 0)
    return Piece(
        kind=kind, dtype=dtype, values=offsets, items=items[offset * dtype.itemsize :], valid=valid, first_bit=first
    )


def _is_indexable(array: pa.Array, column: Column) -> bool:
    stored, wanted = array.type, _arrow_type(column)
    if stored.equals(wanted):
        return True
    if column.is_list or not column.is_fixed or column.dtype in ("bool", "timestamp"):
        return False
    while pa.types.is_fixed_size_list(stored) or isinstance(stored, pa.FixedShapeTensorType):
        stored = stored.value_type
    # Numbers that were narrower when they were stored are widened batch by batch.
    return bool(pa.types.is_integer(stored) or pa.types.is_floating(stored))


# A thousand shards are opened for the first batch, and each would make the same types anew.
@lru_cache(maxsize=1_024)
def _arrow_type(column: Column) -> pa.DataType:
    return column.arrow_type()


def _flat_numbers(storage: pa.Array, start: int) -> tuple[NDArray[np.uint8], int, np.dtype[Any]]:
    # `.values` ignores the slice that a list may be, and `.flatten()` would drop the rows that are null.
    while pa.types.is_fixed_size_list(storage.type):
        start, storage = (start + storage.offset) * storage.type.list_size, storage.values
    dtype = np.dtype("int64") if pa.types.is_timestamp(storage.type) else np.dtype(storage.type.to_pandas_dtype())
    return _as_bytes(storage.buffers()[1]), start + storage.offset, dtype


def _absent(column: Column, num_rows: int) -> Piece:
    nothing = np.zeros(-(-num_rows // 8), np.uint8)
    if column.is_fixed:
        return Piece(kind="absent", dtype=_BYTES, values=nothing, valid=nothing)
    dtype = np.dtype(column.dtype) if column.is_list else _BYTES
    return Piece(
        kind="variable", dtype=dtype, values=np.zeros(num_rows + 1, np.int32), items=nothing[:0], valid=nothing
    )


def _as_bytes(buffer: pa.Buffer | None) -> NDArray[np.uint8]:
    return np.frombuffer(buffer, np.uint8) if buffer is not None and buffer.size else np.empty(0, np.uint8)
