"""The compiled inner loops, each with a twin in NumPy that gives the same bytes where there is no compiler.

Rows are int64 numbers; `places` int32 say in which stretch each row lies. A table holds for every stretch the address
at which row 0 would lie if the stretch began with it, and the array itself for the twins.
"""

import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shoal.data.bit_selection import select_bits_pure

try:
    native: Any = import_module("shoal.data._native")
except ImportError:
    native = None

Values = NDArray[Any]
Rows = NDArray[np.int64]
Places = NDArray[np.int32]

# When a file's bytes and its name were last changed (ns), and its inode. The second is in it because a program can set
# the first back, and not that one.
FileKey = tuple[int, ...]

# How many columns the compiled part takes at once.
_MAX_COLUMNS = 56
_NO_LIMIT = np.iinfo(np.int64).max
_LOG = logging.getLogger(__name__)
# The multipliers of SplitMix64's finaliser (Steele, Lea and Flood 2014).
_FIRST, _SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


@cache
def warn_if_absent() -> None:
    """Tell the user, once in a process, that the loops are not compiled."""
    if native is None:
        _LOG.warning(
            "shoal's loaders run without their compiled part: the same batches, about half as fast (blobs: a tenth); "
            "next: install a C compiler, then reinstall shoal"
        )


class Table:
    """Where each of a gatherer's stretches keeps one column; filled in as the stretches are opened.

    `bases` int64 [num_stretches] are addresses, `views` the arrays that begin with a stretch's first row, and `bits`
    where in its first byte a stretch of bits begins. `starts` are the first rows of all stretches, and `limits` how
    many items a stretch of offsets points into.
    """

    def __init__(self, starts: Rows) -> None:
        self.starts = starts
        self.bases = np.zeros(len(starts), np.int64)
        self.first_bits = np.zeros(len(starts), np.int64)
        self.limits = np.full(len(starts), _NO_LIMIT, np.int64)
        self.views: list[Values | None] = [None] * len(starts)

    def put(
        self, stretch: int, view: Values, *, row_bytes: int, first_bit: int = 0, num_items: int = _NO_LIMIT
    ) -> None:
        """Enter the array of a stretch; 0 bytes a row: not indexed by rows (flat items), or bits."""
        self.limits[stretch] = num_items
        self.views[stretch] = view
        address: int = view.__array_interface__["data"][0]
        self.bases[stretch] = address - int(self.starts[stretch]) * row_bytes
        self.first_bits[stretch] = first_bit - int(self.starts[stretch])


def permute(start: int, size: int, halves: tuple[int, int], keys: NDArray[np.uint64], out: Rows) -> None:
    """Fill `out` with where a permutation sends positions start and following; see `permutation.py`."""
    if native is not None:
        native.permute(start, size, *halves, keys, out)
        return
    images = _pass(np.arange(start, start + len(out), dtype=np.uint64), halves, keys)
    while len(outside := np.flatnonzero(images >= size)):
        images[outside] = _pass(images[outside], halves, keys)
    out[:] = images.view(np.int64)


def _pass(values: NDArray[np.uint64], halves: tuple[int, int], keys: NDArray[np.uint64]) -> NDArray[np.uint64]:
    left_bits, right_bits = halves
    left, right = values >> np.uint64(right_bits), values & np.uint64((1 << right_bits) - 1)
    scratch, shifted = np.empty_like(values), np.empty_like(values)
    for index, key in enumerate(keys):
        # The halves take turns instead of swapping places: they differ in width when the bits are odd in number.
        source, target, num_bits = (left, right, right_bits) if index % 2 else (right, left, left_bits)
        np.bitwise_xor(source, key, out=scratch)
        np.multiply(scratch, _FIRST, out=scratch)
        np.right_shift(scratch, np.uint64(32), out=shifted)
        np.bitwise_xor(scratch, shifted, out=scratch)
        np.multiply(scratch, _SECOND, out=scratch)
        # A product's high bits depend on all bits of its factors, the low ones do not.
        np.right_shift(scratch, np.uint64(64 - num_bits), out=scratch)
        np.bitwise_xor(target, scratch, out=target)
    return (left << np.uint64(right_bits)) | right


def locate(rows: Rows, stops: Rows, places: Places) -> bool:
    """Fill `places` with the stretch that holds each row, given where stretches stop; False if a row is in none."""
    if native is not None:
        inside: bool = native.locate(rows, stops, places)
        return inside
    if len(rows) and (rows.min() < 0 or not len(stops) or rows.max() >= stops[-1]):
        return False
    places[:] = np.searchsorted(stops, rows, side="right")
    return True


@dataclass(frozen=True, slots=True)
class Rectangle:
    """Tables of several columns of fixed size, with their addresses in one array [num_columns, num_stretches]."""

    tables: tuple[Table, ...]
    bases: NDArray[np.int64]
    row_bytes: NDArray[np.int64]


def rectangle(tables: Sequence[Table], row_bytes: Sequence[int]) -> Rectangle:
    """Join tables for `gather_rows`; what is put into a table later is seen."""
    bases = np.zeros((len(tables), len(tables[0].bases) if tables else 0), np.int64)
    for table, line in zip(tables, bases, strict=True):
        line[:] = table.bases
        table.bases = line
    return Rectangle(tuple(tables), bases, np.array(row_bytes, np.int64))


def gather_rows(rows: Rows, places: Places, columns: Rectangle, outs: tuple[Values, ...]) -> None:
    """Copy the rows of all columns into `outs`, one array a column with as many bytes as the rows have."""
    if native is not None:
        if len(outs) <= _MAX_COLUMNS:
            native.gather_rows(rows, places, columns.bases, columns.row_bytes, outs)
            return
        for first in range(0, len(outs), _MAX_COLUMNS):
            some = slice(first, first + _MAX_COLUMNS)
            native.gather_rows(rows, places, columns.bases[some], columns.row_bytes[some], outs[some])
        return
    for stretch, chosen in _groups(places):
        for table, out in zip(columns.tables, outs, strict=True):
            view = table.views[stretch]
            assert view is not None
            local = rows[chosen] - table.starts[stretch]
            target = out.reshape(len(rows), -1).view(np.uint8)
            if isinstance(chosen, slice):
                # Row numbers were checked: "clip" saves the copy that `take` makes to be able to fail half-way.
                np.take(view, local, axis=0, out=target, mode="clip")
            else:
                # `take` and then scatter: half as long as indexing on both sides (8 shards, 784-byte rows).
                target[chosen] = view.take(local, axis=0)


def gather_bits(rows: Rows, places: Places, table: Table, out: Values) -> None:
    """Fill `out` (one byte a row) with the rows' bits; 1 where a stretch has none, as for a column without nulls."""
    if native is not None:
        native.gather_bits(rows, places, table.bases, table.first_bits, out)
        return
    for stretch, chosen in _groups(places):
        view = table.views[stretch]
        bits = rows[chosen] + table.first_bits[stretch]
        out[chosen] = 1 if view is None else (view[bits >> 3] >> (bits & 7).astype(np.uint8)) & 1


def gather_offsets(rows: Rows, places: Places, table: Table, width: int, starts: Rows, offsets: Rows) -> None:
    """Fill `starts` with each row's first item in its stretch, and `offsets` [num_rows + 1] with those of a batch.

    Args:
        rows: which rows.
        places: in which stretches.
        table: Arrow's offsets, `width` bytes each.
        width: 4 or 8.
        starts: int64 [num_rows], filled.
        offsets: int64 [num_rows + 1], filled: where each row begins in a batch of one row right behind the other.

    Raises:
        ValueError: a row does not lie in its stretch's items.
    """
    if native is not None:
        native.gather_offsets(rows, places, table.bases, table.limits, width, starts, offsets)
        return
    offsets[0] = 0
    for stretch, chosen in _groups(places):
        view = table.views[stretch]
        assert view is not None
        local = rows[chosen] - table.starts[stretch]
        first, stop = view[local].astype(np.int64), view[local + 1].astype(np.int64)
        if len(first) and (first.min() < 0 or (stop < first).any() or stop.max() > table.limits[stretch]):
            raise ValueError("a row lies outside of its items")
        starts[chosen] = first
        offsets[1:][chosen] = stop - first
    np.cumsum(offsets, out=offsets)


def gather_items(
    starts: Rows, places: Places, table: Table, item_bytes: int, offsets: Rows, row_items: int, out: Values
) -> None:
    """Copy each row's items into `out`, bytes: packed, or every row in `row_items` whose rest stays as it is."""
    if native is not None:
        native.gather_items(starts, places, table.bases, item_bytes, offsets, row_items, out)
        return
    target = out.reshape(-1).view(np.uint8)
    lengths = np.diff(offsets) * item_bytes
    places_in_out = np.arange(len(starts)) * row_items * item_bytes if row_items else offsets[:-1] * item_bytes
    for row, (stretch, length) in enumerate(zip(places.tolist(), lengths.tolist(), strict=True)):
        if length:
            view, first, to = table.views[stretch], int(starts[row]) * item_bytes, int(places_in_out[row])
            assert view is not None
            target[to : to + length] = view[first : first + length]


def find_pending(
    starts: Rows, stops: Rows, places: Places, shifts: Rows, firsts: Rows, pending: NDArray[np.bool_]
) -> list[int]:
    """Return the numbers of pending chunks that bytes starts..stops-1 of each place's file lie in, perhaps repeatedly.

    Args:
        starts: int64 per row; below 0: nothing to look for.
        stops: int64 per row.
        places: the stretch of each.
        shifts: per stretch, the logarithm of its chunks' size.
        firsts: per stretch the number of its first chunk, and behind the last the number of all chunks.
        pending: per chunk.
    """
    if native is not None:
        numbers: list[int] = native.find_pending(starts, stops, places, shifts, firsts, pending)
        return numbers
    low, high = firsts[places] + (starts >> shifts[places]), firsts[places] + ((stops - 1) >> shifts[places])
    wanted = (starts >= 0) & (stops > starts)
    found: set[int] = set()
    for first, last in set(zip(low[wanted].tolist(), high[wanted].tolist(), strict=True)):
        found.update((np.flatnonzero(pending[first : last + 1]) + first).tolist())
    return sorted(found)


def select_bits(bits: NDArray[np.uint64], ranks: Rows, ks: Rows) -> Rows:
    """Return int64: where the k-th set bit is, for each k of `ks` counted from 0; -1 where there is none.

    Args:
        bits: the bitmap as little-endian words, least significant bit first.
        ranks: int64, how many bits are set before each block of 4,096 bits, and at the end how many in all.
        ks: int64.
    """
    if native is None:
        return select_bits_pure(bits, ranks, ks)
    found = np.empty(len(ks), np.int64)
    native.select_bits(bits, ranks, ks, found)
    return found


def map_pages(path: Path) -> tuple[Any, *FileKey]:
    """Return a file's bytes as a read-only buffer over its pages, and the file's key; no descriptor stays open.

    Raises:
        OSError: as from `open` and `mmap`.
    """
    if hasattr(native, "map_file"):
        mapped: tuple[Any, *FileKey] = native.map_file(path)
        return mapped
    with path.open("rb") as file:
        found = os.fstat(file.fileno())
        # Arrow's map, and not Python's: that one keeps a descriptor for each. Where the loops are compiled, it is not
        # loaded.
        import pyarrow as pa

        with pa.memory_map(str(path)) as pages:
            memory = pages.read_buffer() if found.st_size else b""
    return memory, found.st_mtime_ns, found.st_ctime_ns, found.st_ino


def _groups(places: Places) -> Iterator[tuple[int, slice | NDArray[np.int64]]]:
    if not len(places):
        return
    if (places == places[0]).all():
        yield int(places[0]), slice(None)
        return
    order = np.argsort(places, kind="stable")
    found, firsts = np.unique(places[order], return_index=True)
    yield from zip(found.tolist(), np.split(order, firsts[1:]), strict=True)
