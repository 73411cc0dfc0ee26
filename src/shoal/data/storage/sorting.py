"""Sort more rows than fit in memory: small sorted groups, spilled as sorted runs, merged one hash range at a time."""

import itertools
import math
import mmap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from shoal.base import report_full_storage
from shoal.data.columns import from_numpy, to_numpy
from shoal.data.schema import HASH_COLUMN, HASH_SPAN, Schema
from shoal.data.storage.reordering import Places, gather_rows, sort_rows
from shoal.data.storage.shard import HashRange
from shoal.data.texts import texts_of

# 256 MiB of sorted rows in memory: half as many spilled twice as often, to no one's gain.
RUN_BYTES = 256 << 20
# 16 MiB: a group is sorted while it lies in the cache, and while the next rows are being read.
GROUP_BYTES = 16 << 20
_OFFSET_BYTES = 4


class SortedRuns:
    """Takes rows in any order and gives them back sorted by hash, rows of equal hash in the order they came.

    Rows stay in memory until there are `run_bytes` of them; full runs are files in `folder`, which the caller owns.
    For one thread until `finish`; then any number may call `between`.
    """

    def __init__(self, schema: Schema, folder: Path, run_bytes: int = RUN_BYTES, *, name: str = "run") -> None:
        self._schema = schema
        self._folder = folder
        self._run_bytes = run_bytes
        self._name = name
        self._pending: list[pa.RecordBatch] = []
        self._pending_bytes = 0
        self._groups: list[pa.RecordBatch] = []
        self._groups_bytes = 0
        # Every run is a list of batches: each sorted, and none overlapping the next.
        self._runs: list[list[pa.RecordBatch]] = []
        self._maps: list[mmap.mmap] = []
        self.paths: list[Path] = []
        self.num_rows = 0
        self.size_bytes = 0

    def add(self, batch: pa.RecordBatch, hashes: NDArray[np.uint64]) -> None:
        """Take the rows of a record batch that has the schema's columns, one hash per row."""
        size_bytes = _size_bytes(batch, self._schema) + hashes.nbytes
        self._pending.append(batch.append_column(HASH_COLUMN, from_numpy(hashes)))
        self._pending_bytes += size_bytes
        self.size_bytes += size_bytes
        self.num_rows += batch.num_rows
        if self._pending_bytes >= min(GROUP_BYTES, self._run_bytes):
            self._sort_group()
            if self._groups_bytes >= self._run_bytes:
                self._spill()

    def adopt(self, paths: Sequence[Path], *, num_rows: int, size_bytes: int) -> None:
        """Take the runs that another process has spilled with the same schema, as if their rows came now."""
        for path in paths:
            self._open_run(path)
        self.num_rows += num_rows
        self.size_bytes += size_bytes

    def finish(self, *, spill: bool = False) -> None:
        """Sort what is still in memory; call once, after the last row and before `between`.

        With `spill`, all rows are in `paths` then, for `adopt` in another process.
        """
        # The last run stays in memory: sources under one run's size never touch the disk before their shards.
        if self._pending:
            self._sort_group()
        if spill and self._groups:
            self._spill()
        self._runs += [[group] for group in self._groups]
        self._groups = []

    def between(self, hash_range: HashRange) -> pa.RecordBatch:
        """Return a record batch of all rows in the hash range, sorted by hash, with the hashes as last column."""
        found = []
        for number, run in enumerate(self._runs):
            parts = _slices([run], hash_range)
            if number < len(self._maps):
                # One run's pages at a time: they stay cached, but would count as ours, and grow with the rows.
                parts = [self._copied(part) for part in parts]
                self._maps[number].madvise(mmap.MADV_DONTNEED)
            found += parts
        return _merged([part for part in found if part.num_rows] or found[:1], self._schema)

    def _copied(self, part: pa.RecordBatch) -> pa.RecordBatch:
        places = Places.of(np.arange(part.num_rows), [part.num_rows])
        arrays = gather_rows([part], self._schema.columns, places)
        return pa.RecordBatch.from_arrays([*arrays, from_numpy(_hashes(part).copy())], schema=part.schema)

    def _open_run(self, path: Path) -> None:
        with path.open("rb") as file:
            # Python's own map, as Arrow's cannot be told that pages are done with.
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        reader = pa.ipc.open_file(pa.py_buffer(mapped))
        self._maps.append(mapped)
        self._runs.append([reader.get_batch(index) for index in range(reader.num_record_batches)])
        self.paths.append(path)

    def _sort_group(self) -> None:
        self._groups.append(_merged(self._pending, self._schema))
        self._groups_bytes += self._pending_bytes
        self._pending, self._pending_bytes = [], 0

    def _spill(self) -> None:
        path = self._folder / f"{self._name}-{len(self.paths)}.arrow"
        schema = self._groups[0].schema
        num_parts = math.ceil(self._groups_bytes / GROUP_BYTES)
        borders = [index * HASH_SPAN // num_parts for index in range(num_parts + 1)]
        groups = [[group] for group in self._groups]
        with report_full_storage(path), pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, schema) as file:
            # A part at a time: to merge all at once would take the memory once more.
            for low, high in itertools.pairwise(borders):
                file.write_batch(_merged(_slices(groups, (low, high)), self._schema))
        self._open_run(path)
        self._groups, self._groups_bytes = [], 0


def _slices(runs: Sequence[Sequence[pa.RecordBatch]], hash_range: HashRange) -> list[pa.RecordBatch]:
    found = [_slice(batch, hash_range) for run in runs for batch in run]
    return [part for part in found if part.num_rows] or found[:1]


def _slice(batch: pa.RecordBatch, hash_range: HashRange) -> pa.RecordBatch:
    hashes = _hashes(batch)
    low = int(np.searchsorted(hashes, np.uint64(hash_range[0])))
    high = len(hashes) if hash_range[1] >= HASH_SPAN else int(np.searchsorted(hashes, np.uint64(hash_range[1])))
    return batch.slice(low, high - low)


def _merged(batches: Sequence[pa.RecordBatch], schema: Schema) -> pa.RecordBatch:
    places, hashes = sort_rows([_hashes(batch) for batch in batches])
    # Also for a single sorted part: a slice keeps its batch's offsets, and a shard's bytes must not show them.
    arrays = gather_rows(batches, schema.columns, places)
    return pa.RecordBatch.from_arrays([*arrays, from_numpy(hashes)], schema=batches[0].schema)


def _size_bytes(batch: pa.RecordBatch, schema: Schema) -> int:
    # Counted by row and not by buffer: padding and validity bits depend on how the rows were cut, and the number of
    # shards follows from this size.
    size_bytes = 0
    for column in schema.columns:
        size_bytes += batch.num_rows * (column.row_bytes if column.is_fixed else _OFFSET_BYTES)
        if not column.is_fixed:
            texts = texts_of(batch.column(column.name), column)
            size_bytes += (int(texts.offsets[-1]) - int(texts.offsets[0])) * texts.width
    return size_bytes


def _hashes(batch: pa.RecordBatch) -> NDArray[np.uint64]:
    return to_numpy(batch.column(HASH_COLUMN))
