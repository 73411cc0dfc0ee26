"""Sort more rows than fit in memory: sorted runs on disk, merged one hash range at a time."""

from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from shoal.base import report_full_storage
from shoal.data.columns import reordered
from shoal.data.hashing import HASH_SPAN
from shoal.data.schema import HASH_COLUMN, Schema
from shoal.data.shard import HashRange

# 128 MiB: a run is held about three times while it is sorted; larger ones were not faster to merge.
RUN_BYTES = 128 << 20


class SortedRuns:
    """Takes rows in any order and gives them back sorted by hash, rows of equal hash in the order they came.

    Rows stay in memory until there are `run_bytes` of them; full runs are files in `folder`, which the caller owns.
    For one thread.
    """

    def __init__(self, schema: Schema, folder: Path, run_bytes: int = RUN_BYTES) -> None:
        self._schema = schema
        self._folder = folder
        self._run_bytes = run_bytes
        self._pending: list[pa.RecordBatch] = []
        self._pending_bytes = 0
        self._runs: list[pa.RecordBatch] = []
        self.num_rows = 0
        self.size_bytes = 0

    def add(self, batch: pa.RecordBatch, hashes: NDArray[np.uint64]) -> None:
        """Take the rows of a record batch that has the schema's columns, one hash per row."""
        self._pending.append(batch.append_column(HASH_COLUMN, pa.array(hashes)))
        self._pending_bytes += self._pending[-1].nbytes
        self.size_bytes += self._pending[-1].nbytes
        self.num_rows += batch.num_rows
        if self._pending_bytes >= self._run_bytes:
            self._write_run()

    def finish(self) -> None:
        """Sort what is still in memory; call once, after the last row and before `between`."""
        # The last run stays in memory: sources under one run's size never touch the disk before their shards.
        if self._pending:
            self._runs.append(self._sorted_pending())

    def between(self, hash_range: HashRange) -> pa.RecordBatch:
        """Return a record batch of all rows in the hash range, sorted by hash, with the hashes as last column."""
        parts = [part for part in (_slice(run, hash_range) for run in self._runs) if part.num_rows]
        if not parts:
            return self._runs[0].slice(0, 0)
        merged = parts[0] if len(parts) == 1 else pa.Table.from_batches(parts).combine_chunks().to_batches()[0]
        # Also for a single part: a slice of a run keeps the run's offsets, and a shard's bytes must not show them.
        return self._in_order(merged)

    def _write_run(self) -> None:
        batch = self._sorted_pending()
        path = self._folder / f"run-{len(self._runs)}.arrow"
        with report_full_storage(path), pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, batch.schema) as file:
            file.write_batch(batch)
        self._runs.append(pa.ipc.open_file(pa.memory_map(str(path))).get_batch(0))

    def _sorted_pending(self) -> pa.RecordBatch:
        combined = pa.Table.from_batches(self._pending).combine_chunks().to_batches()[0]
        self._pending, self._pending_bytes = [], 0
        return self._in_order(combined)

    def _in_order(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        hashes = _hashes(batch)
        order = np.argsort(hashes, kind="stable")
        arrays = [reordered(batch.column(column.name), column, order) for column in self._schema.columns]
        return pa.RecordBatch.from_arrays([*arrays, pa.array(hashes[order])], schema=batch.schema)


def _hashes(batch: pa.RecordBatch) -> NDArray[np.uint64]:
    hashes: NDArray[np.uint64] = batch.column(HASH_COLUMN).to_numpy()
    return hashes


def _slice(batch: pa.RecordBatch, hash_range: HashRange) -> pa.RecordBatch:
    hashes = _hashes(batch)
    low = int(np.searchsorted(hashes, np.uint64(hash_range[0])))
    high = len(hashes) if hash_range[1] >= HASH_SPAN else int(np.searchsorted(hashes, np.uint64(hash_range[1])))
    return batch.slice(low, high - low)
