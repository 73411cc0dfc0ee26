"""Where an open record batch keeps a column: its values as arrays over the file's pages, ready to be indexed by row."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from shoal.base import CorruptError
from shoal.data.columns import conform_array
from shoal.data.layout import Layout
from shoal.data.schema import Column
from shoal.data.storage.arrow_file import Body
from shoal.data.storage.chunks import REPAIR
from shoal.data.storage.shard import OpenBatch, address_of

Kind = Literal["fixed", "bits", "variable", "absent"]
_BYTES = np.dtype(np.uint8)


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """One column of one record batch from some row on; the arrays begin with that row.

    `values` are bytes [num_rows, row_bytes] ("fixed"), a bitmap ("bits") or int32 offsets [num_rows + 1] into `items`
    ("variable"); a column that the batch was stored without is "absent". `dtype` is the type of one number as it is
    stored, perhaps narrower than the column's today. `valid` is a bitmap, None when no row is null. `first_bit` is
    where the bitmaps begin.
    """

    kind: Kind
    dtype: np.dtype[Any]
    values: NDArray[Any]
    items: NDArray[np.uint8] | None = None
    valid: NDArray[np.uint8] | None = None
    first_bit: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
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
    """Finds the same columns in one batch after another; what all files of one kind share is asked of Arrow once.

    A thousand small files are open many times sooner than by Arrow. Any number of threads may ask.
    """

    def __init__(self, columns: Sequence[Column]) -> None:
        self._columns = tuple(columns)
        # The layout is kept beside its id, so that no other one gets that id.
        self._known: dict[tuple[bytes, int], tuple[Layout | None, tuple[_Place | None, ...]]] = {}

    def find(self, opened: OpenBatch, start: int) -> list[Piece]:
        """Return where the columns' rows lie from `start` on; see `find_piece`."""
        if opened.body is None:
            return [find_piece(opened, column, start) for column in self._columns]
        key = (opened.body.kind, id(opened.layout))
        if (known := self._known.get(key)) is None:
            places = tuple(_find_place(opened, opened.body, column) for column in self._columns)
            known = self._known[key] = (opened.layout, places)
        return [
            (_piece_at(place, opened, opened.body, start) if place else None) or find_piece(opened, column, start)
            for place, column in zip(known[1], self._columns, strict=True)
        ]


def _find_place(opened: OpenBatch, body: Body, column: Column) -> _Place | None:
    name = opened.layout.name_of(column) if opened.layout is not None else column.name
    array = None if name is None else opened.batch.column(name)
    if array is None or opened.data is None or not _is_indexable(array, column):
        return None
    storage = array.storage if isinstance(array, pa.ExtensionArray) else array
    kind: Kind = "bits" if column.dtype == "bool" else "fixed" if column.is_fixed else "variable"
    arrays = storage.buffers()
    main, last = len(arrays) - 1 if kind == "fixed" else 1, len(arrays) - 1
    dtype, inner = _BYTES, storage.offset
    if kind == "fixed" or column.is_list:
        _, inner, dtype = _flat_numbers(storage.values if column.is_list else storage, 0)
    # Where Arrow sees the column says which of the file's arrays are its own: they follow on one another.
    origin = address_of(opened.data)
    number_at = {at: number for number, (at, size) in enumerate(body.buffers) if size}
    first = number_at.get(arrays[main].address - origin, -1) - main if arrays[main] is not None else -1
    if first < 0 or storage.offset or inner:
        return None
    for number, found in enumerate(arrays):
        at, size = body.buffers[first + number]
        if size != (0 if found is None else found.size) or (size and found.address - origin != at):
            return None
    return _Place(
        kind=kind,
        dtype=dtype,
        first=first,
        values=first + main,
        items=first + last if kind == "variable" else None,
        empty=range(first + (1 if kind == "fixed" else 2), first + last),
        width=dtype.itemsize * math.prod(column.shape),
    )


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
