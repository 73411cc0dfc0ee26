"""Logs of several writers that are read as one: each writes a log of its own, and one small file says in which order.

The file `order` lies beside the main log, whose part is number 0; part k is the log in the folder beside it whose name
ends in `-front~k`. A record says that the next so many rows are a part's; it is written when those rows are durable.
Row numbers of the whole are thus the same for every reader and never change.
"""

import errno
import os
import re
import threading
import time
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from shoal.base.errors import NotFoundError
from shoal.base.files import file_lock, report_full_storage
from shoal.base.log_reader import SegmentReader

_NAME = "order"
# Both ends are marked: what a crash has torn off is no record, and swallows none behind it.
_RECORD = re.compile(rb"^(\d+) (\d+)\.$", re.MULTILINE)
_POLL_S = 0.02


def part_folder(main: Path, part: int) -> Path:
    """Return the folder of one part; part 0 is the main log itself."""
    return main if part == 0 else main.with_name(f"{main.name}-front~{part}")


def open_log(folder: str | os.PathLike[str]) -> "SegmentReader | MergedReader":
    """Open a log to read all its rows, whether one writer has filled it or several; NotFoundError for no log."""
    return MergedReader(folder) if (Path(folder) / _NAME).exists() else SegmentReader(folder)


class OrderWriter:
    """Tells readers of one part's rows. One per part; any thread may call it."""

    def __init__(self, main: Path, part: int) -> None:
        self._path = main / _NAME
        self._part = part
        self._lock = threading.Lock()
        main.mkdir(parents=True, exist_ok=True)
        with file_lock(main / "order.lock"):
            # Not whether the file is there: on a full disk it may have been made and not written.
            if not (self._path.exists() and _records(self._path.read_bytes())):
                # The rows of a single writer before keep the numbers that they had.
                self._append(0, _num_rows(main))
            # What a killed writer made durable and did not tell of is told with the first record.
            self._num_told = sum(count for part, count in _records(self._path.read_bytes()) if part == self._part)

    @staticmethod
    def is_needed(main: Path, num_parts: int) -> bool:
        """Whether a writer must tell of its rows: there are several, or once were."""
        return num_parts > 1 or (main / _NAME).exists()

    def tell(self, num_durable: int) -> None:
        """Tell that this part has so many durable rows by now.

        Raises:
            StorageFullError: there is no room for the record; the next call tells of these rows too.
        """
        with self._lock:
            if num_durable > self._num_told:
                self._append(self._part, num_durable - self._num_told)
                self._num_told = num_durable

    def _append(self, part: int, count: int) -> None:
        record = b"\n%d %d.\n" % (part, count)
        with report_full_storage(self._path):
            # One small write at the end: the kernel lets no other writer in between.
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            try:
                num_written = os.write(descriptor, record)
            finally:
                os.close(descriptor)
            # The last room may take a part of it: without its point it is none.
            if num_written < len(record) - 1:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@dataclass(frozen=True, slots=True)
class _Span:
    """Rows of one part that follow each other in the whole."""

    row: int
    part: int
    first: int
    count: int


class MergedReader:
    """Reads the committed rows of all parts in the order they were told; it sees what live writers add.

    One reader per thread. It has the methods of `SegmentReader` that do not name a file.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        """Open the logs; NotFoundError when the folder has no log of several writers."""
        self.folder = Path(folder)
        self._path = self.folder / _NAME
        if not self._path.exists():
            raise NotFoundError(f"cannot read a log of several writers in {folder}", next_step="check the folder")
        self._readers: dict[int, SegmentReader] = {}
        self._spans: list[_Span] = []
        self._num_by_part: dict[int, int] = {}
        self._offset = 0
        self._num_rows = 0
        self._look()
        # A part that has rows is there; the main one may not be, where its writer never came to write.
        some = self._reader(self._spans[0].part if self._spans else 0)
        self.log_id, self.schema = some.log_id, some.schema

    @property
    def num_rows(self) -> int:
        """Rows committed so far."""
        self._look()
        return self._num_rows

    def read(self, since: int = 0, *, wait_s: float = 0) -> Iterator[tuple[int, pa.RecordBatch]]:
        """Yield (row number of its first row, batch) for all rows from `since` on, as `SegmentReader.read` does."""
        deadline = time.monotonic() + wait_s
        while self.num_rows <= since:
            if time.monotonic() >= deadline:
                return
            time.sleep(min(_POLL_S, wait_s))
        streams: dict[int, _Stream] = {}
        for index in range(self._find(since), len(self._spans)):
            span = self._spans[index]
            skip = max(0, since - span.row)
            if span.part not in streams:
                streams[span.part] = _Stream(self._reader(span.part).read(span.first + skip))
            row = span.row + skip
            for batch in streams[span.part].take(span.count - skip):
                yield row, batch
                row += batch.num_rows

    def row(self, number: int) -> dict[str, Any]:
        """Return one row as plain values; NotFoundError when it is not (yet) committed."""
        if not 0 <= number < self.num_rows:
            raise NotFoundError(
                f"cannot find row {number} in the log {self.folder}: it has {self._num_rows} committed rows",
                next_step="check the row number; rows appear within a second of being appended",
            )
        span = self._spans[self._find(number)]
        return self._reader(span.part).row(span.first + number - span.row)

    def _find(self, row: int) -> int:
        return max(0, bisect_right(self._spans, row, key=lambda span: span.row) - 1)

    def _reader(self, part: int) -> SegmentReader:
        if part not in self._readers:
            self._readers[part] = SegmentReader(part_folder(self.folder, part))
        return self._readers[part]

    def _look(self) -> None:
        with self._path.open("rb") as source:
            source.seek(self._offset)
            data = source.read()
        # The last record may still be on its way; the point says that it is whole.
        data = data[: data.rfind(b".") + 1]
        self._offset += len(data)
        for part, count in _records(data):
            if count:
                first = self._num_by_part.get(part, 0)
                self._spans.append(_Span(self._num_rows, part, first, count))
                self._num_by_part[part] = first + count
                self._num_rows += count


class _Stream:
    """The rows of one part, in pieces of any size."""

    def __init__(self, batches: Iterator[tuple[int, pa.RecordBatch]]) -> None:
        self._batches = batches
        self._rest: pa.RecordBatch | None = None

    def take(self, count: int) -> Iterator[pa.RecordBatch]:
        """Yield the next `count` rows, or as many as there are."""
        while count:
            batch = self._rest if self._rest is not None else next(self._batches, (0, None))[1]
            if batch is None:
                return
            piece = batch.slice(0, count)
            self._rest = batch.slice(piece.num_rows) if piece.num_rows < batch.num_rows else None
            count -= piece.num_rows
            yield piece


def _records(data: bytes) -> list[tuple[int, int]]:
    return [(int(part), int(count)) for part, count in _RECORD.findall(data)]


def _num_rows(main: Path) -> int:
    try:
        return SegmentReader(main).num_rows
    except NotFoundError:
        return 0
