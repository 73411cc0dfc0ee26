"""Reading a segment log while it grows: any number of readers, in any process, without a lock."""

import bisect
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from shoal.base.errors import NotFoundError
from shoal.base.log import read_facts
from shoal.base.segment import STREAM_START, list_segments, open_sealed, scan

_POLL_S = 0.02


class SegmentReader:
    """Reads the rows that were committed, in order; it sees what a live writer adds. One reader per thread.

    It remembers where batches begin, so that following a log costs only what is new.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        """Open a log; NotFoundError when the folder has none."""
        self.folder = Path(folder)
        self.log_id, self.schema = read_facts(self.folder)
        # Of sealed segments: the row number of each batch's first row. Of the growing one: (row, byte offset) so far.
        self._sealed_starts: dict[Path, list[int]] = {}
        self._growing: tuple[Path, list[tuple[int, int]]] | None = None

    def read(self, since: int = 0, *, wait_s: float = 0) -> Iterator[tuple[int, pa.RecordBatch]]:
        """Yield (row number of its first row, batch) for all rows from `since` on; the first batch begins just there.

        Ends when there is nothing more for now. With `wait_s`, waits that long for a first batch to come.
        """
        deadline = time.monotonic() + wait_s
        while True:
            found = False
            for first_row, batch in self._read_now(since):
                found = True
                yield first_row, batch
            if found or time.monotonic() >= deadline:
                return
            time.sleep(min(_POLL_S, wait_s))

    def row(self, number: int) -> dict[str, Any]:
        """Return one row as plain values, tensors as NumPy arrays; NotFoundError when it is not (yet) committed."""
        for _, batch in self.read(number) if number >= 0 else ():
            return {name: _plain(batch.column(name)[0]) for name in batch.schema.names}
        raise self._no_row(number)

    def locate(self, row: int) -> tuple[Path, int]:
        """Return (segment file, row within it); NotFoundError when the row is not (yet) committed."""
        if not 0 <= row < self.num_rows:
            raise self._no_row(row)
        first_row, path = [found for found in list_segments(self.folder) if found[0] <= row][-1]
        return path, row - first_row

    @property
    def num_rows(self) -> int:
        """Rows committed so far."""
        segments = list_segments(self.folder)
        if not segments:
            return 0
        first_row, path = segments[-1]
        sealed = open_sealed(path)
        if sealed is not None:
            return self._starts(first_row, path, sealed)[-1]
        for _ in self._growing_batches(first_row, path, sys.maxsize):
            """Each new batch moves the last mark."""
        return self._marks(first_row, path)[-1][0]

    def sealed(self) -> list[Path]:
        """Return the sealed segments in row order: immutable Arrow IPC files that a dataset can adopt."""
        segments = [path for _, path in list_segments(self.folder)]
        return [path for path in segments if path != segments[-1] or open_sealed(path) is not None]

    def _read_now(self, since: int) -> Iterator[tuple[int, pa.RecordBatch]]:
        segments = list_segments(self.folder)
        for position, (first_row, path) in enumerate(segments):
            is_before = position + 1 < len(segments) and segments[position + 1][0] <= since
            if is_before:
                continue
            for start, batch in self._batches(first_row, path, since):
                skip = max(0, since - start)
                if skip < batch.num_rows:
                    yield start + skip, batch.slice(skip)

    def _batches(self, first_row: int, path: Path, since: int) -> Iterator[tuple[int, pa.RecordBatch]]:
        """Yield a segment's batches from the one that holds row `since` on, uncut."""
        try:
            sealed = open_sealed(path)
        except FileNotFoundError:
            return  # a new writer found it empty and removed it
        if sealed is None:
            yield from self._growing_batches(first_row, path, since)
            return
        starts = self._starts(first_row, path, sealed)
        for index in range(max(0, bisect.bisect_right(starts, since) - 1), sealed.num_record_batches):
            yield starts[index], sealed.get_batch(index)

    def _starts(self, first_row: int, path: Path, sealed: pa.RecordBatchFileReader) -> list[int]:
        """Return the row number of each batch's first row, and behind them that of the next segment's."""
        starts = self._sealed_starts.get(path)
        if starts is None:
            starts = [first_row]
            for index in range(sealed.num_record_batches):
                starts.append(starts[-1] + sealed.get_batch(index).num_rows)
            self._sealed_starts[path] = starts
        return starts

    def _marks(self, first_row: int, path: Path) -> list[tuple[int, int]]:
        """Return where batches of the growing segment begin, as (row, byte offset); the last is where the next will."""
        if self._growing is None or self._growing[0] != path:
            self._growing = (path, [(first_row, STREAM_START)])
        return self._growing[1]

    def _growing_batches(self, first_row: int, path: Path, since: int) -> Iterator[tuple[int, pa.RecordBatch]]:
        marks = self._marks(first_row, path)
        row, offset = marks[max(0, bisect.bisect_right(marks, since, key=lambda mark: mark[0]) - 1)]
        for batch, behind in scan(path, self.schema, offset):
            yield row, batch
            row += batch.num_rows
            if row > marks[-1][0]:
                marks.append((row, behind))

    def _no_row(self, row: int) -> NotFoundError:
        return NotFoundError(
            f"cannot find row {row} in the log {self.folder}: it has {self.num_rows} committed rows",
            next_step="check the row number; rows appear within a second of being appended",
        )


def _plain(value: pa.Scalar) -> object:
    if isinstance(value, pa.FixedShapeTensorScalar) and value.is_valid:
        return value.to_numpy()
    return value.as_py()
