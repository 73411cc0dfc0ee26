"""Rows that did not come in: counted by what they broke, and, for a quarantine, kept as text in a file aside."""

import base64
import json
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from shoal.base import report_full_storage

# What a quarantine holds, one row for each refused one.
QUARANTINE = pa.schema(
    [
        pa.field("row", pa.string(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("position", pa.int64(), nullable=False),
    ]
)
UNREADABLE = "a readable row"


class Refusals:
    """Takes refused rows; `counts` says how many broke what. Any thread may add.

    With a `path`, the rows themselves go to that file as they come; without, they are counted and forgotten.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self.counts: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._sink: pa.OSFile | None = None
        self._writer: pa.RecordBatchStreamWriter | None = None

    @property
    def num_rows(self) -> int:
        """How many rows were refused."""
        return self.counts.total()

    def add(self, rows: Sequence[str], reasons: Sequence[str], source: Sequence[str], position: Sequence[int]) -> None:
        """Keep refused rows; what they are counted under is told by `count`."""
        if self.path is None or not rows:
            return
        columns = zip((rows, reasons, source, position), QUARANTINE, strict=True)
        arrays = [pa.array(values, kind.type) for values, kind in columns]
        batch = pa.RecordBatch.from_arrays(arrays, schema=QUARANTINE)
        self._write(batch)

    def _write(self, batch: pa.RecordBatch) -> None:
        if self.path is None:
            return
        with self._lock, report_full_storage(self.path):
            if self._writer is None:
                self._sink = pa.OSFile(str(self.path), "wb")
                self._writer = pa.ipc.new_stream(self._sink, QUARANTINE)
            self._writer.write_batch(batch)

    def count(self, broken: str, num_rows: int) -> None:
        """Count rows that broke the same rule."""
        with self._lock:
            self.counts[broken] += num_rows

    def add_unreadable(self, rejects: pa.RecordBatch) -> None:
        """Keep what a source could not read, as its `rejects` gives it."""
        columns = {name: rejects.column(name).to_pylist() for name in rejects.schema.names}
        self.count(UNREADABLE, rejects.num_rows)
        self.add(columns["content"], columns["reason"], columns["source"], columns["position"])

    def reset(self) -> None:
        """Forget all: the source is read again from its start."""
        self.close()
        self.counts.clear()

    def merge(self, counts: Mapping[str, int], path: Path | None) -> None:
        """Take what another process has refused: its counts, and the file that its `close` returned."""
        for broken, num_rows in counts.items():
            self.count(broken, num_rows)
        for batch in refused_rows(path):
            self._write(batch)

    def close(self) -> Path | None:
        """Finish the file, and return it if it holds any row."""
        if self._writer is None or self._sink is None:
            return None
        with report_full_storage(self.path or ""):
            self._writer.close()
            self._sink.close()
        self._writer = self._sink = None
        return self.path


def refused_rows(path: Path | None) -> Iterator[pa.RecordBatch]:
    """Yield what `Refusals.close` left in a file; nothing for None."""
    if path is not None:
        with pa.OSFile(str(path)) as raw, pa.ipc.open_stream(raw) as stream:
            yield from stream


def rows_as_text(batch: pa.RecordBatch) -> list[str]:
    """Return each row as JSON; blobs as base64, instants as ISO 8601, what JSON cannot say as its Python text."""
    return [json.dumps(_plain(row), ensure_ascii=False, default=_as_text) for row in batch.to_pylist()]


def _plain(value: Any) -> Any:  # noqa: ANN401  # whatever a row holds
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    # JSON has no NaN and no infinity.
    return str(value) if isinstance(value, float) and value - value != 0 else value


def _as_text(value: object) -> Any:  # noqa: ANN401  # what json.dumps asks for
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if hasattr(value, "tolist"):
        return value.tolist()
    return value.isoformat() if hasattr(value, "isoformat") else str(value)
