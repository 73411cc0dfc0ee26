"""Rows by number: one pass over the mapped files per batch, whatever the number of shards; files open when touched."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from shoal.base import CorruptError, InputError
from shoal.data.loading.buffers import Buffers
from shoal.data.loading.packed import MAX_ITEMS, Packed
from shoal.data.loading.piece_finder import PieceFinder
from shoal.data.loading.tables import ColumnTables, FixedTables, VariableTables, tables_for
from shoal.data.loading.unchecked import PendingChunks
from shoal.data.native import (
    Places,
    Rows,
    Values,
    find_pending,
    gather_bits,
    gather_items,
    gather_offsets,
    gather_rows,
    locate,
    rectangle,
    warn_if_absent,
)
from shoal.data.schema import Schema
from shoal.data.storage.chunks import REPAIR
from shoal.data.storage.shard import OpenBatch, ShardFile

if TYPE_CHECKING:
    import pyarrow as pa

Gathered = dict[str, Values | Packed]
# What is copied into memory at a time; the first piece has few rows, as nobody knows yet how large they are.
_FIRST_COPIED_ROWS, _COPIED_ROWS, _COPIED_BYTES = 1_024, 1 << 20, 256 << 20


@dataclass(frozen=True, slots=True)
class Stretch:
    """Rows start..stop-1 of a record batch, which `open` gives when they are first touched.

    `size_bytes` and `chunk_bytes` say how the batch's file is cut for checking; 0 for a batch in memory.
    """

    open: Callable[[], OpenBatch]
    start: int
    stop: int
    size_bytes: int = 0
    chunk_bytes: int = 1


def stretches_of(file: ShardFile, start: int, stop: int) -> list[Stretch]:
    """Return rows start..stop-1 of a shard as stretches; only a log segment, of any number of batches, is opened."""
    cut = (file.shard.size_bytes, file.shard.chunk_bytes)
    if file.shard.order == "hash":
        return [Stretch(lambda: file.open_batches[0], start, stop, *cut)]
    found, first = [], 0
    for opened in file.open_batches:
        low, high = max(start - first, 0), min(stop - first, opened.num_rows)
        if low < high:
            found.append(Stretch(lambda opened=opened: opened, low, high, *cut))  # type: ignore[misc]
        first += opened.num_rows
    return found


class RowGatherer:
    """Takes any rows of consecutive stretches; row numbers count through all of them. Any number of threads may.

    A stretch is opened when one of its rows is first asked for, and the chunks that a row lies in are checked when it
    is first read. Once all is open and checked, nothing of that is asked any more.
    """

    def __init__(
        self,
        stretches: Sequence[Stretch],
        schema: Schema,
        *,
        select: Callable[[Rows], Rows] | None = None,
        num_rows: int | None = None,
    ) -> None:
        """Take the stretches; nothing is opened.

        Args:
            stretches: in storage order.
            schema: the columns that are wanted.
            select: of a subset: which stored row each of its rows is.
            num_rows: of a subset: how many rows it has.
        """
        warn_if_absent()
        self._select = select
        self._stretches = [stretch for stretch in stretches if stretch.stop > stretch.start]
        self._schema = schema
        lengths = np.array([stretch.stop - stretch.start for stretch in self._stretches], np.int64)
        self._stops = np.cumsum(lengths)
        self._num_stored = int(self._stops[-1]) if len(self._stops) else 0
        self.num_rows = self._num_stored if num_rows is None else num_rows
        starts = self._stops - lengths
        self._tables: list[ColumnTables] = [tables_for(column, starts) for column in schema.columns]
        self._nullable = [tables for tables in self._tables if tables.column.nullable]
        self._plan = self._planned()
        self._finder = PieceFinder(schema.columns)
        self._opened = np.zeros(len(self._stretches), np.bool_)
        self._lock = threading.Lock()
        self._pending = PendingChunks([(stretch.size_bytes, stretch.chunk_bytes) for stretch in self._stretches])
        self.is_settled = not self._stretches

    def take(self, rows: NDArray[np.int64]) -> dict[str, Values]:
        """Return the rows as new arrays [len(rows), ...] per column, and "<name>_mask" for each nullable one.

        Text, blobs and lists become Python objects, None where there is no value.

        Raises:
            InputError: a row number is negative or too large, or rows are not given by whole numbers.
        """
        gathered = self.gather(_row_numbers(rows), Buffers())
        taken: dict[str, Values] = {}
        for column in self._schema.columns:
            values, mask = gathered[column.name], gathered.get(f"{column.name}_mask")
            assert not isinstance(mask, Packed)
            if isinstance(values, Packed):
                values = values.objects(column, mask)
            taken[column.name] = values.view(column.numpy_dtype) if column.dtype == "timestamp" else values
            if mask is not None:
                taken[f"{column.name}_mask"] = mask
        return taken

    def gather(self, rows: Rows, buffers: Buffers) -> Gathered:
        """Return the rows in arrays of `buffers`: fixed columns [len(rows), ...], others packed; instants as int64.

        Raises:
            InputError: a row number is negative or too large.
            CorruptError: a chunk that one of the rows lies in is damaged.
            ShardMissingError: a file is gone.
        """
        rows = np.ascontiguousarray(rows, np.int64)
        places = np.empty(len(rows), np.int32)
        if self._select is not None:
            self._check_rows(rows)
            rows = np.ascontiguousarray(self._select(rows), np.int64)
        if not locate(rows, self._stops, places):
            if self._select is None:
                self._check_rows(rows)
            # Rows that are there and lie nowhere: what `select` chose, or a dataset's own count, is wrong.
            raise CorruptError(
                f"cannot find rows {rows.min()} to {rows.max()} among {self._num_stored} stored ones", next_step=REPAIR
            )
        if not self.is_settled:
            self._prepare(rows, places)
        # One tuple, read once: another thread may replace it while it opens a file that was stored differently.
        targets, plan = self._plan
        count = (len(rows),)
        gathered: Gathered = {name: buffers.take(name, count + shape, number) for name, shape, number in targets}
        if targets:
            gather_rows(rows, places, plan, tuple(gathered.values()))  # type: ignore[arg-type]  # nothing packed yet
        if len(targets) < len(self._tables):
            done, gathered = gathered, {}
            for tables in self._tables:
                name = tables.column.name
                gathered[name] = done[name] if name in done else self._gather_other(tables, rows, places, buffers)
        for tables in self._nullable:
            self._apply_mask(tables, rows, places, gathered, buffers)
        return gathered

    def _check_rows(self, rows: Rows) -> None:
        if len(rows) and (rows.min() < 0 or rows.max() >= self.num_rows):
            raise InputError(
                f"cannot take rows {rows.min()} to {rows.max()} of {self.num_rows}",
                next_step=f"use row numbers from 0 to {self.num_rows - 1}",
            )

    def in_memory(self) -> "RowGatherer":
        """Return the same rows from memory of their own: for files that are slow to read again."""
        from shoal.data.loading.arrow_batches import as_record_batch  # Arrow is loaded by those who hand its arrays out

        stretches = []
        # Piece by piece, so that the rows are never in memory twice; the first one shows how large a row is.
        first, count = 0, _FIRST_COPIED_ROWS
        while first < self.num_rows:
            rows = np.arange(first, min(first + count, self.num_rows))
            gathered = self.gather(rows, Buffers())
            if (fitting := _num_fitting(gathered)) < len(rows):
                # Arrow counts a batch's texts and blobs in 32 bits.
                rows = rows[: max(fitting, 1)]
                gathered = self.gather(rows, Buffers())
            batch = as_record_batch(gathered, self._schema)
            stretches.append(Stretch(_opened(batch), 0, len(rows)))
            first += len(rows)
            count = min(max(_COPIED_BYTES * len(rows) // max(batch.nbytes, 1), 1), _COPIED_ROWS)
        return RowGatherer(stretches, self._schema)

    def record_batch(self, rows: Rows) -> "pa.RecordBatch":
        """Return the rows as an Arrow record batch in memory of its own."""
        from shoal.data.loading.arrow_batches import as_record_batch

        return as_record_batch(self.gather(rows, Buffers()), self._schema)

    def _planned(self) -> tuple[list[tuple[str, tuple[int, ...], Any]], Any]:
        # Name, shape and type of what one pass gathers; and from where.
        fixed = [tables for tables in self._tables if isinstance(tables, FixedTables) and tables.is_uniform]
        targets = [(tables.column.name, tables.column.shape, tables.number) for tables in fixed]
        return targets, rectangle([t.main for t in fixed], [t.column.row_bytes for t in fixed]) if fixed else None

    def _gather_other(self, tables: ColumnTables, rows: Rows, places: Places, buffers: Buffers) -> Values | Packed:
        name, count = tables.column.name, len(rows)
        if isinstance(tables, FixedTables):
            out = buffers.take(name, (count, *tables.column.shape), tables.number)
            tables.gather_mixed(rows, places, out)
            return out
        assert isinstance(tables, VariableTables)
        starts = np.empty(count, np.int64)
        offsets = buffers.take(f"{name}_offsets", (count + 1,), np.dtype(np.int64))
        try:
            gather_offsets(rows, places, tables.offsets, 4, starts, offsets)
        except ValueError as error:
            # The sums agree, so the file was written so: by another program, and then adopted.
            raise CorruptError(
                f"cannot read column {name!r}: in one of its files {error}", next_step=f"write that file anew; {REPAIR}"
            ) from error
        width = tables.number.itemsize
        if not self.is_settled:
            bases = tables.items.bases[places]
            self._check(bases + starts * width, bases + (starts + np.diff(offsets)) * width, places)
        out = buffers.take_bytes(name, int(offsets[-1]) * width)
        gather_items(starts, places, tables.items, width, offsets, 0, out)
        return Packed(out.view(tables.number), offsets)

    def _apply_mask(
        self, tables: ColumnTables, rows: Rows, places: Places, gathered: Gathered, buffers: Buffers
    ) -> None:
        name = f"{tables.column.name}_mask"
        mask = buffers.take(name, (len(rows),), np.dtype(np.bool_))
        gather_bits(rows, places, tables.valid, mask)
        values = gathered[tables.column.name]
        # What stands in a file under a null is anybody's guess; a batch always holds zeros there.
        if not isinstance(values, Packed) and not mask.all():
            values[~mask] = 0
        gathered[name] = mask

    def _prepare(self, rows: Rows, places: Places) -> None:
        """Open what these rows need, check the chunks they lie in, and find out whether anything is left to do."""
        if not self._opened.all():
            # Not `np.unique`: its first call imports half of NumPy that nobody needs, longer than a hundred files take.
            touched = np.zeros(len(self._opened), np.bool_)
            touched[places] = True
            for stretch in np.flatnonzero(touched & ~self._opened).tolist():
                self._open(stretch)
        elif not self._pending.left:
            self.is_settled = True
            return
        for tables in self._tables:
            for addresses, num_bytes in tables.addresses(rows, places):
                self._check(addresses, addresses + num_bytes, places)

    def _check(self, starts: Rows, stops: Rows, places: Places) -> None:
        pending = self._pending
        origins = pending.origins[places]
        # Stretches in memory have no origin and nothing to check.
        starts = np.where(origins > 0, starts - origins, -1)
        found = find_pending(starts, stops - origins, places, pending.shifts, pending.firsts, pending.flags)
        pending.check(found)

    def _open(self, stretch: int) -> None:
        with self._lock:
            if self._opened[stretch]:
                return
            given = self._stretches[stretch]
            opened = given.open()
            was_uniform = [tables.is_uniform for tables in self._tables]
            regions: list[NDArray[np.uint8]] = []
            pieces = self._finder.find(opened, given.start)
            for tables, piece in zip(self._tables, pieces, strict=True):
                tables.put(stretch, piece)
                regions += [piece.values] if piece.items is None else [piece.values.view(np.uint8), piece.items]
            self._pending.open(stretch, opened, regions)
            if was_uniform != [tables.is_uniform for tables in self._tables]:
                self._plan = self._planned()
            self._opened[stretch] = True


def _row_numbers(rows: NDArray[Any]) -> Rows:
    numbers = np.asarray(rows)
    if numbers.ndim != 1 or (numbers.size and numbers.dtype.kind not in "iu"):
        # Not converted: a mask would become rows 0 and 1, and a fraction another row.
        raise InputError(
            f"cannot take rows by {numbers.dtype} {list(numbers.shape)}: expected whole numbers, one a row",
            next_step="give row numbers; of a mask, those are np.flatnonzero(mask)",
        )
    return numbers.astype(np.int64, copy=False)


def _num_fitting(gathered: Gathered) -> int:
    packed = [values for values in gathered.values() if isinstance(values, Packed)]
    fitting = [int(np.searchsorted(values.offsets, MAX_ITEMS, side="right")) - 1 for values in packed]
    return min(fitting, default=MAX_ITEMS)


def _opened(batch: "pa.RecordBatch") -> Callable[[], OpenBatch]:
    return lambda: OpenBatch(batch)
