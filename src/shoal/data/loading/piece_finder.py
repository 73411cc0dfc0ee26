"""Finds where one file after another keeps the same columns, without Arrow where they lie as they are wanted."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shoal.data.layout import Layout
from shoal.data.loading.pieces import Kind, Piece
from shoal.data.schema import NUMBERS, Column
from shoal.data.storage.arrow_file import Body, StoredField, stored_fields
from shoal.data.storage.shard import OpenBatch

_BYTES = np.dtype(np.uint8)


@dataclass(frozen=True, slots=True)
class _Place:
    # Which of a body's arrays hold a column: its nulls in `first`, `values` and `items` as in a piece; the `empty` ones
    # are bitmaps of what lies inside the rows. `width` are the bytes of a row of fixed size.
    kind: Kind
    dtype: np.dtype[Any]
    first: int
    values: int
    items: int | None
    empty: range
    width: int


class PieceFinder:
    """Finds the same columns in one batch after another; what all files of one kind share is found out once.

    A thousand small files are open many times sooner than by Arrow, which is loaded only for what it alone can read.
    Any number of threads may ask.
    """

    def __init__(self, columns: Sequence[Column]) -> None:
        self._columns = tuple(columns)
        # The layout is kept beside its id, so that no other one gets that id.
        self._known: dict[tuple[bytes, int, int], tuple[Layout | None, tuple[_Place | None, ...]]] = {}

    def find(self, opened: OpenBatch, start: int) -> list[Piece]:
        """Return where the columns' rows lie from `start` on; see `find_piece`."""
        if opened.body is None or opened.data is None:
            return [_by_arrow(opened, column, start) for column in self._columns]
        key = (opened.body.kind, len(opened.body.buffers), id(opened.layout))
        if (known := self._known.get(key)) is None:
            fields = stored_fields(opened.data, opened.body)
            places = tuple(_find_place(fields, opened.layout, column) for column in self._columns)
            known = self._known[key] = (opened.layout, places)
        return [
            (_piece_at(place, opened, opened.body, start) if place else None) or _by_arrow(opened, column, start)
            for place, column in zip(known[1], self._columns, strict=True)
        ]


def _by_arrow(opened: OpenBatch, column: Column, start: int) -> Piece:
    # Seldom needed, and Arrow takes longer to load than a dataset to open.
    from shoal.data.loading.stored_columns import find_piece

    return find_piece(opened, column, start)


def _find_place(fields: Mapping[str, StoredField], layout: Layout | None, column: Column) -> _Place | None:
    name = layout.name_of(column) if layout is not None else column.name
    field = None if name is None else fields.get(name)
    if field is None or not _is_indexable(field, column):
        return None
    if not column.is_fixed:
        dtype, last = (np.dtype(column.dtype), 3) if column.is_list else (_BYTES, 2)
        values, items, empty = field.first + 1, field.first + last, range(field.first + 2, field.first + last)
        return _Place("variable", dtype, field.first, values, items, empty, dtype.itemsize)
    if column.dtype == "bool":
        return _Place("bits", _BYTES, field.first, field.first + 1, None, range(0), 1)
    dtype = np.dtype(np.int64) if column.dtype == "timestamp" else np.dtype(field.dtype)
    values = field.first + len(field.sizes) + 1
    width = dtype.itemsize * math.prod(column.shape)
    return _Place("fixed", dtype, field.first, values, None, range(field.first + 1, values), width)


def _is_indexable(field: StoredField, column: Column) -> bool:
    if column.is_list or not column.is_fixed or column.dtype in ("bool", "timestamp"):
        return (field.dtype, field.sizes, field.is_list) == (column.dtype, (), column.is_list)
    # Numbers that were narrower when they were stored are widened batch by batch.
    is_as_large = math.prod(field.sizes) == math.prod(column.shape)
    return field.dtype in NUMBERS and not field.is_list and is_as_large


def _piece_at(place: _Place, opened: OpenBatch, body: Body, start: int) -> Piece | None:
    # None where the file's arrays are too short or more than expected: Arrow then says what is wrong.
    data, num_rows, buffers = opened.data, body.num_rows, body.buffers
    if data is None or not num_rows or any(buffers[number][1] for number in place.empty):
        return None
    bitmap_bytes = -(-num_rows // 8)
    at, size = buffers[place.first]
    if 0 < size < bitmap_bytes:
        return None
    valid = _checked(opened, data, at, size) if size else None
    at, size = buffers[place.values]
    items = None
    if place.kind == "fixed":
        width = place.width
        if size < num_rows * width:
            return None
        values = data[at + start * width : at + num_rows * width].reshape(num_rows - start, width)
    elif place.kind == "bits":
        if size < bitmap_bytes:
            return None
        values = _checked(opened, data, at, size)
    else:
        if size < 4 * (num_rows + 1) or place.items is None:
            return None
        values = data[at + 4 * start : at + 4 * (num_rows + 1)].view(np.int32)
        at, size = buffers[place.items]
        items = data[at : at + size]
    return Piece(kind=place.kind, dtype=place.dtype, values=values, items=items, valid=valid, first_bit=start)


def _checked(opened: OpenBatch, data: NDArray[np.uint8], start: int, size: int) -> NDArray[np.uint8]:
    if opened.checks is not None:
        opened.checks.check(data, start, start + size)
    return data[start : start + size]
