"""Rows of several record batches in one given order, in canonical form: the copy that every row makes on its way."""

from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from shoal.base import SchemaError
from shoal.data import compiled
from shoal.data.columns import Decoded, decode, encode
from shoal.data.schema import Column
from shoal.data.texts import Texts, texts_of

_MAX_TEXT = 2**31 - 1
_ALIGNED_BYTES = 64
# Where an entry of the sort is a key of 8 bytes and a row of 8.
_ENTRY_BYTES = 16


class _Room:
    """Memory for many arrays, asked for at once: so the system gives large pages, and takes them back together.

    Page by page, rows of a few hundred bytes cost more in new pages than in being copied.
    """

    def __init__(self, num_bytes: int, num_arrays: int) -> None:
        self._left = np.empty(num_bytes + num_arrays * _ALIGNED_BYTES, np.uint8)

    def take(self, num_bytes: int) -> NDArray[np.uint8]:
        """Return an array of bytes, which is not cleared."""
        size = -(-num_bytes // _ALIGNED_BYTES) * _ALIGNED_BYTES
        if size > len(self._left):
            return np.empty(num_bytes, np.uint8)
        found, self._left = self._left[:num_bytes], self._left[size:]
        return found

    @staticmethod
    def of(batches: Sequence[pa.RecordBatch], columns: Sequence[Column], num_rows: int) -> "_Room":
        """Return room for as many rows of the columns, if each row of the batches comes once."""
        bitmap_bytes = -(-num_rows // 8)
        num_bytes = 0
        for column in columns:
            num_bytes += bitmap_bytes + num_rows * column.row_bytes
            if not column.is_fixed:
                num_bytes += 4 * (num_rows + 1) + sum(
                    _most_bytes(batch.column(column.name), column) for batch in batches
                )
        return _Room(num_bytes, 3 * len(columns))


@dataclass(frozen=True, slots=True)
class Places:
    """Where the rows of an order stand: `part` says in which batch, `row` which of its rows; both uint32."""

    part: NDArray[np.uint32]
    row: NDArray[np.uint32]

    @staticmethod
    def of(order: NDArray[np.int64], lengths: Sequence[int]) -> "Places":
        """Return the places of rows that are numbered through batches of these lengths."""
        if len(lengths) == 1:
            return Places(np.zeros(len(order), np.uint32), order.astype(np.uint32))
        starts = np.cumsum([0, *lengths[:-1]])
        part = np.repeat(np.arange(len(lengths), dtype=np.uint32), lengths)[order]
        return Places(part, (order - starts[part]).astype(np.uint32))


def sort_rows(keys: Sequence[NDArray[np.uint64]]) -> tuple[Places, NDArray[np.uint64]]:
    """Return the rows of several batches in the stable order of their keys, one uint64 per row, and the keys in order.

    Of equal keys, those of the earlier batch come first, and inside a batch those of the earlier row.
    """
    if compiled.statistics is None:
        together = np.concatenate(keys)
        order = np.argsort(together, kind="stable")
        return Places.of(order, [len(each) for each in keys]), together[order]
    size = sum(map(len, keys))
    room = _Room((_ENTRY_BYTES + 8) * size, 3)
    places = Places(room.take(4 * size).view(np.uint32), room.take(4 * size).view(np.uint32))
    # On its own: it is kept long after the places have done their work.
    ordered = np.empty(size, np.uint64)
    parts = [(np.ascontiguousarray(each), None) for each in keys]
    compiled.statistics.sort_rows(parts, room.take(_ENTRY_BYTES * size), places.part, places.row, ordered)
    return places, ordered


def gather_rows(batches: Sequence[pa.RecordBatch], columns: Sequence[Column], places: Places) -> list[pa.Array]:
    """Return the columns of the rows at `places`; equal rows give equal bytes whatever batches they came in.

    Raises:
        SchemaError: a column of texts would hold more than 2 GiB.
    """
    room = _Room.of(batches, columns, len(places.row))
    return [
        _gather_fixed([batch.column(column.name) for batch in batches], column, places, room)
        if column.is_fixed
        else _gather_texts([batch.column(column.name) for batch in batches], column, places, room)
        for column in columns
    ]


def _gather_fixed(arrays: list[pa.Array], column: Column, places: Places, room: _Room) -> pa.Array:
    if compiled.statistics is not None and not column.shape:
        return _gather_plain(compiled.statistics, arrays, column, places, room)
    parts = [decode(array, column) for array in arrays]
    values = _take([part.values for part in parts], places, room)
    valid = _take_valid([part.valid for part in parts], [len(array) for array in arrays], places, room)
    return encode(Decoded(values, valid), column)


def _gather_plain(loops: ModuleType, arrays: list[pa.Array], column: Column, places: Places, room: _Room) -> pa.Array:
    # One number, instant or truth a row: from buffers to buffers, with no array per batch in between.
    num_rows = num_valid = len(places.row)
    bitmap: NDArray[np.uint8] | None = None
    if any(array.null_count for array in arrays):
        bitmap, num_valid = _gather_bits(loops, arrays, 0, places, room)
    if column.dtype == "bool":
        values, _ = _gather_bits(loops, arrays, 1, places, room)
        if bitmap is not None:
            values &= bitmap
    else:
        # What lies behind a null is whatever its maker left there.
        views = [_without_nulls(array) for array in arrays]
        values = _take([decode(view, column).values for view in views], places, room).view(np.uint8)
        if bitmap is not None:
            loops.clear_rows(values, column.numpy_dtype.itemsize, bitmap)
    buffers = [None if num_valid == num_rows else pa.py_buffer(bitmap), pa.py_buffer(values)]
    return pa.Array.from_buffers(column.arrow_type(), num_rows, buffers, num_rows - num_valid)


def _without_nulls(array: pa.Array) -> pa.Array:
    return pa.Array.from_buffers(array.type, len(array), [None, array.buffers()[1]], 0, array.offset)


def _gather_bits(
    loops: ModuleType, arrays: list[pa.Array], buffer: int, places: Places, room: _Room
) -> tuple[NDArray[np.uint8], int]:
    # One buffer of bits of all arrays, and how many are ones; an array without that buffer has ones only.
    bits = room.take(-(-len(places.row) // 8))
    parts = [(array.buffers()[buffer], None) for array in arrays]
    firsts = np.array([array.offset for array in arrays], np.int64)
    return bits, loops.gather_bits(parts, firsts, places.part, places.row, bits)


def _gather_texts(arrays: list[pa.Array], column: Column, places: Places, room: _Room) -> pa.Array:
    parts = [texts_of(array, column) for array in arrays]
    width = parts[0].width
    valid = _take_valid([part.valid for part in parts], [len(array) for array in arrays], places, room)
    offsets = room.take(4 * (len(places.row) + 1)).view(np.int32)
    if compiled.statistics is None:
        starts = [part.offsets[:-1] for part in parts]
        lengths = _take([np.diff(part.offsets) for part in parts], places, room)
        ends = np.cumsum(lengths, dtype=np.int64)
        total = int(ends[-1]) if len(ends) else 0
        _check_total(total, column)
        offsets[0], offsets[1:] = 0, ends
        data = _gather_bytes([part.data for part in parts], _take(starts, places, room), offsets, places, width)
    else:
        buffers = [(part.offsets, part.data) for part in parts]
        # Enough where each row comes once, which is what sorting asks for; else all is done again.
        total = sum(map(_num_items, parts))
        data = np.empty(0, np.uint8)
        while total * width > len(data) or not len(data):
            _check_total(total, column)
            data = room.take(max(total * width, 1))
            total = compiled.statistics.gather_texts(buffers, places.part, places.row, width, offsets, data)
        data = data[: total * width]
    return Texts(offsets=offsets, data=data, valid=valid, width=width).to_arrow(column)


def _most_bytes(array: pa.Array, column: Column) -> int:
    # With what may lie behind nulls: enough, and found without a look at the rows.
    offsets = np.frombuffer(array.buffers()[1] or b"", np.int32)[array.offset :][: len(array) + 1]
    width = np.dtype(column.dtype).itemsize if column.is_list else 1
    return (int(offsets[-1]) - int(offsets[0])) * width if len(offsets) else 0


def _num_items(texts: Texts) -> int:
    return int(texts.offsets[-1]) - int(texts.offsets[0])


def _check_total(total: int, column: Column) -> None:
    if total > _MAX_TEXT:
        raise SchemaError(
            f"cannot store column {column.name!r}: its values in one shard exceed 2 GiB",
            next_step="make more shards: a larger num_shards, or a smaller target_shard_bytes",
        )


def _gather_bytes(
    data: list[NDArray[np.uint8]],
    starts: NDArray[np.int32],
    offsets: NDArray[np.int32],
    places: Places,
    width: int,
) -> NDArray[np.uint8]:
    # Row by row: without the compiled loop there is no vectorised way that stays below a multiple of the memory.
    out = np.empty(int(offsets[-1]) * width, np.uint8)
    for part, first, start, stop in zip(places.part, starts, offsets[:-1], offsets[1:], strict=True):
        low, size = int(first) * width, int(stop - start) * width
        out[int(start) * width : int(stop) * width] = data[part][low : low + size]
    return out


def _take_valid(
    valid: list[NDArray[np.bool_] | None], lengths: list[int], places: Places, room: _Room
) -> NDArray[np.bool_] | None:
    if all(part is None for part in valid):
        return None
    whole = [np.ones(length, np.bool_) if part is None else part for part, length in zip(valid, lengths, strict=True)]
    return _take(whole, places, room)


def _take(parts: list[NDArray[Any]], places: Places, room: _Room) -> NDArray[Any]:
    width = parts[0].itemsize * int(np.prod(parts[0].shape[1:], dtype=np.int64))
    if compiled.statistics is None or width == 0:
        starts = np.cumsum([0, *(len(part) for part in parts[:-1])])
        taken: NDArray[Any] = np.concatenate(parts).take(starts[places.part] + places.row, axis=0)
        return taken
    out = room.take(len(places.row) * width).view(parts[0].dtype).reshape(len(places.row), *parts[0].shape[1:])
    buffers = [(np.ascontiguousarray(part).reshape(-1).view(np.uint8), None) for part in parts]
    compiled.statistics.gather_fixed(buffers, places.part, places.row, width, out.reshape(-1).view(np.uint8))
    return out
