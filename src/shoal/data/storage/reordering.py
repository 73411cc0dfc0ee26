"""Rows of several record batches in one given order, in canonical form: the copy that every row makes on its way."""

from collections.abc import Sequence
from dataclasses import dataclass
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


def sort_order(keys: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Return the stable order that sorts uint64 keys."""
    if compiled.statistics is None:
        return np.argsort(keys, kind="stable")
    order = np.empty(len(keys), np.int64)
    compiled.statistics.sort_order(np.ascontiguousarray(keys), order)
    return order


def gather_rows(batches: Sequence[pa.RecordBatch], columns: Sequence[Column], places: Places) -> list[pa.Array]:
    """Return the columns of the rows at `places`; equal rows give equal bytes whatever batches they came in.

    Raises:
        SchemaError: a column of texts would hold more than 2 GiB.
    """
    return [
        _gather_fixed([batch.column(column.name) for batch in batches], column, places)
        if column.is_fixed
        else _gather_texts([batch.column(column.name) for batch in batches], column, places)
        for column in columns
    ]


def _gather_fixed(arrays: list[pa.Array], column: Column, places: Places) -> pa.Array:
    parts = [decode(array, column) for array in arrays]
    values = _take([part.values for part in parts], places)
    valid = _take_valid([part.valid for part in parts], [len(array) for array in arrays], places)
    return encode(Decoded(values, valid), column)


def _gather_texts(arrays: list[pa.Array], column: Column, places: Places) -> pa.Array:
    parts = [texts_of(array, column) for array in arrays]
    width = parts[0].width
    valid = _take_valid([part.valid for part in parts], [len(array) for array in arrays], places)
    offsets = np.empty(len(places.row) + 1, np.int32)
    if compiled.statistics is None:
        starts = [part.offsets[:-1] for part in parts]
        lengths = _take([np.diff(part.offsets) for part in parts], places)
        ends = np.cumsum(lengths, dtype=np.int64)
        total = int(ends[-1]) if len(ends) else 0
        _check_total(total, column)
        offsets[0], offsets[1:] = 0, ends
        data = _gather_bytes([part.data for part in parts], _take(starts, places), offsets, places, width)
    else:
        buffers = [(part.offsets, part.data) for part in parts]
        total = compiled.statistics.gather_text_offsets(buffers, places.part, places.row, width, offsets)
        _check_total(total, column)
        data = np.empty(total * width, np.uint8)
        compiled.statistics.gather_texts(buffers, places.part, places.row, width, offsets, data)
    return Texts(offsets=offsets, data=data, valid=valid, width=width).to_arrow(column)


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


def _take_valid(valid: list[NDArray[np.bool_] | None], lengths: list[int], places: Places) -> NDArray[np.bool_] | None:
    if all(part is None for part in valid):
        return None
    whole = [np.ones(length, np.bool_) if part is None else part for part, length in zip(valid, lengths, strict=True)]
    return _take(whole, places)


def _take(parts: list[NDArray[Any]], places: Places) -> NDArray[Any]:
    width = parts[0].itemsize * int(np.prod(parts[0].shape[1:], dtype=np.int64))
    if compiled.statistics is None or width == 0:
        starts = np.cumsum([0, *(len(part) for part in parts[:-1])])
        taken: NDArray[Any] = np.concatenate(parts).take(starts[places.part] + places.row, axis=0)
        return taken
    out = np.empty((len(places.row), *parts[0].shape[1:]), parts[0].dtype)
    buffers = [(np.ascontiguousarray(part).reshape(-1).view(np.uint8), None) for part in parts]
    compiled.statistics.gather_fixed(buffers, places.part, places.row, width, out.reshape(-1).view(np.uint8))
    return out
