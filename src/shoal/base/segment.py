"""One segment of a log: an Arrow IPC file that can be read while it grows and recovered when its writer was killed.

While it grows, a segment is an Arrow file without its footer: the magic word, then a stream of messages. Sealing adds
the footer. A torn tail after a crash ends at the last complete message; half-visible bytes cannot pass for a message,
as a file's length grows only behind its data.
"""

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from shoal.base.files import atomic_file, fsync_folder, report_full_storage

STREAM_START = 8  # the magic word and its padding
_MAGIC = b"ARROW1"
_NAME = re.compile(r"\d{20}\.arrow\Z")


def segment_path(folder: Path, first_row: int) -> Path:
    """Return where the segment that begins with this row lies; names sort as rows do."""
    return folder / f"{first_row:020d}.arrow"


def list_segments(folder: Path) -> list[tuple[int, Path]]:
    """Return (first row, path) of the folder's segments, in row order."""
    return [(int(path.stem), path) for path in sorted(folder.iterdir()) if _NAME.match(path.name)]


def open_sealed(path: Path) -> pa.RecordBatchFileReader | None:
    """Return the Arrow file reader of a sealed segment, memory-mapped; None while the segment still grows."""
    with path.open("rb") as source:
        if source.seek(0, os.SEEK_END) <= STREAM_START:
            return None
        source.seek(-len(_MAGIC), os.SEEK_END)
        if source.read() != _MAGIC:
            return None
    try:
        return pa.ipc.open_file(pa.memory_map(str(path)))
    except pa.ArrowInvalid:
        # Data that happens to end with the magic word, or a torn footer.
        return None


def scan(path: Path, schema: pa.Schema, offset: int = STREAM_START) -> Iterator[tuple[pa.RecordBatch, int]]:
    """Yield the complete batches from a byte offset on, each with the offset behind it; a torn tail ends the scan.

    The file is read, not mapped: a writer that meets a full disk cuts its tail off, which kills whoever maps it.
    """
    with pa.OSFile(str(path), "rb") as source:
        if source.size() < offset:
            return
        source.seek(offset)
        while True:
            try:
                message = pa.ipc.read_message(source)
                batch = pa.ipc.read_record_batch(message, schema) if message.type == "record batch" else None
            except (EOFError, pa.ArrowInvalid):
                return
            except OSError as error:
                if error.errno is not None:
                    raise  # the disk itself failed: that is no torn tail, and nothing may be dropped for it
                return
            if batch is not None:
                yield batch, source.tell()


def recover(path: Path, schema: pa.Schema) -> int:
    """Seal what a killed writer left: keep every complete batch, drop the torn tail, return the number of rows kept.

    A segment without a complete batch is removed. Sealed segments are left alone.
    """
    if (sealed := open_sealed(path)) is not None:
        return int(sealed.count_rows())
    batches = scan(path, schema)
    first = next(batches, None)
    if first is None:
        path.unlink()
        fsync_folder(path.parent)
        return 0
    with atomic_file(path) as sink, pa.ipc.new_file(sink, schema) as writer:
        writer.write_batch(first[0])
        num_rows = first[0].num_rows
        for batch, _ in batches:
            writer.write_batch(batch)
            num_rows += batch.num_rows
    return int(num_rows)


class GrowingSegment:
    """The segment that a log's single writer fills; not for several threads at once.

    `write` only encodes; `flush` and `finish` make durable what was written, and can be called again after a failure:
    bytes that could not be written stay in memory, and the file is cut back to its last durable length.
    """

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self.path = path
        self.num_rows = 0
        self.is_finishing = False
        self._sink = _Sink()
        self._writer = pa.ipc.new_file(pa.PythonFile(self._sink, mode="w"), schema)
        self._durable_bytes = 0
        self._descriptor: int | None = None

    def write(self, batch: pa.RecordBatch) -> None:
        """Encode a batch into memory."""
        self._writer.write_batch(batch)
        self.num_rows += batch.num_rows

    def flush(self) -> None:
        """Make everything written so far durable and visible; a StorageFullError leaves it for the next try."""
        with report_full_storage(self.path):
            is_new = self._descriptor is None
            if self._descriptor is None:
                self._descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
            try:
                end = self._durable_bytes
                for piece in self._sink.pieces:
                    end = _write_at(self._descriptor, piece, end)
                # After a failed fsync the kernel may forget the pages, so a new try writes them again too.
                os.fsync(self._descriptor)
            except OSError:
                with contextlib.suppress(OSError):
                    os.ftruncate(self._descriptor, self._durable_bytes)
                raise
        self._durable_bytes = end
        self._sink.pieces.clear()
        if is_new:
            fsync_folder(self.path.parent)

    def finish(self) -> None:
        """Add the footer, make the whole durable and close the file: from now on it is sealed."""
        if not self.is_finishing:
            self._writer.close()
            self.is_finishing = True
        self.flush()
        self.abandon()

    def abandon(self) -> None:
        """Close the file as it is; the next writer recovers it."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _write_at(descriptor: int, data: bytes, offset: int) -> int:
    """Write all of `data` at a byte offset, and return the offset behind it."""
    rest = memoryview(data)
    while rest:
        written = os.pwrite(descriptor, rest, offset)
        rest, offset = rest[written:], offset + written
    return offset


class _Sink:
    """What pyarrow writes into: pieces in memory, counted from the file's start."""

    closed = False

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self._written = 0

    def write(self, data: bytes) -> int:
        self.pieces.append(bytes(data))
        self._written += len(data)
        return len(data)

    def tell(self) -> int:
        return self._written

    def flush(self) -> None:
        """Nothing to do: flushing is the segment's own decision."""

    def close(self) -> None:
        """Nothing to do: the pieces outlive the writer."""
