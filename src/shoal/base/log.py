"""The append log behind predictions, metrics and events: one writer, many readers, segments that are Arrow files."""

import base64
import contextlib
import os
import threading
from collections import deque
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa

from shoal.base.errors import ConfigError, ConflictError, NotFoundError, SchemaError, UnsupportedError
from shoal.base.files import file_lock, write_atomic
from shoal.base.ids import new_token
from shoal.base.json import decode, pretty
from shoal.base.segment import GrowingSegment, list_segments, recover, segment_path

FACTS_NAME = "log.json"
_BACKLOG_BYTES = 64 << 20


class SegmentLog:
    """Appends record batches to a folder. Threads of one process may share it; a second writer is refused.

    An appended row is in memory at once. It becomes durable, and visible to readers, with the next group commit. When
    the disk is full, rows wait in memory and every commit tries again; `failure` holds the last error, and `append`
    refuses new rows once 64 MiB wait. Row numbers have no gaps and are never used twice.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        schema: pa.Schema,
        *,
        rows_per_segment: int = 65536,
        commit_every_s: float = 0.5,
    ) -> None:
        """Open the log, or make it; what a killed writer left is recovered first.

        Args:
            folder: one log per folder.
            schema: every batch's schema; its metadata is kept in each segment.
            rows_per_segment: a segment of this many rows is sealed.
            commit_every_s: the longest that a row waits to be durable.

        Raises:
            ConflictError: another writer has the log.
            SchemaError: the log exists with other columns.
        """
        if rows_per_segment < 1 or commit_every_s <= 0:
            raise ConfigError(
                f"rows_per_segment={rows_per_segment} must be >= 1 and commit_every_s={commit_every_s} > 0",
                next_step="leave them out for the defaults",
            )
        self.folder = Path(folder)
        self.schema = schema
        self.failure: Exception | None = None
        self._rows_per_segment = rows_per_segment
        self._commit_every_s = commit_every_s
        self._resources = contextlib.ExitStack()
        try:
            self._resources.enter_context(file_lock(self.folder / "writer.lock", blocking=False))
        except ConflictError as error:
            raise ConflictError(
                f"cannot write to the log {self.folder}: another writer has it", next_step="stop it, or use its own log"
            ) from error
        try:
            self.log_id = _open_facts(self.folder, schema)
            self._next_row = self._durable_rows = _recover_all(self.folder, schema)
        except BaseException:
            self._resources.close()
            raise
        # Guards the fields that append touches; held for moments only. Taken inside `_io`, never around it.
        self._changed = threading.Condition()
        self._pending: list[pa.RecordBatch] = []
        self._pending_bytes = 0
        self._is_closing = False
        self._is_released = False
        # Held while files are written, so that appends go on during an fsync.
        self._io = threading.Lock()
        self._encoding: deque[pa.RecordBatch] = deque()
        self._active: GrowingSegment | None = None
        self._committer = threading.Thread(target=self._commit_forever, name=f"log {self.folder.name}", daemon=True)
        self._committer.start()

    @property
    def num_rows(self) -> int:
        """Rows appended so far, by all writers since the log was made."""
        return self._next_row

    @property
    def num_durable_rows(self) -> int:
        """Rows that are on the disk, where readers see them."""
        return self._durable_rows

    def append(self, batch: pa.RecordBatch) -> int:
        """Add a batch and return the row number of its first row; rows of one batch stay together and in order.

        Raises:
            SchemaError: the batch has other columns.
            StorageFullError: too much waits for a full disk; the batch was not added.
        """
        if not batch.schema.equals(self.schema):
            raise _other_schema(self.folder, self.schema, batch.schema)
        if self._pending_bytes > _BACKLOG_BYTES:
            self.sync()
        with self._changed:
            if self._is_closing:
                raise ConflictError(f"cannot append to {self.folder}: the log is closed", next_step="open it again")
            first_row = self._next_row
            if batch.num_rows:
                self._next_row += batch.num_rows
                self._pending.append(batch)
                # Not `nbytes`: that takes 12 us, this half of one, and it is memory that is bounded here.
                self._pending_bytes += batch.get_total_buffer_size()
                self._changed.notify()
        return first_row

    def sync(self) -> int:
        """Make every row appended so far durable and return how many rows are."""
        with self._io:
            self._commit()
            return self._durable_rows

    def seal(self) -> Path | None:
        """Close the segment being filled into an immutable Arrow IPC file; None when it has no rows."""
        with self._io:
            self._commit()
            return self._finish_active()

    def close(self) -> None:
        """Commit, seal, stop the commit thread and let the next writer in; closing twice is fine."""
        with self._changed:
            self._is_closing = True
            self._changed.notify()
        self._committer.join()
        if self._is_released:
            return
        self._is_released = True
        try:
            with self._io:
                self._commit()
                self._finish_active()
        finally:
            if self._active is not None:
                self._active.abandon()
                self._active = None
            self._resources.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _commit_forever(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._pending or self.failure or self._is_closing)
                # Wait for company: one fsync then serves all rows that arrive meanwhile.
                self._changed.wait_for(lambda: self._is_closing, self._commit_every_s)
                if self._is_closing:
                    return
            with self._io, contextlib.suppress(Exception):
                # `failure` tells of it, and sync, seal and close raise it to their caller.
                self._commit()

    def _commit(self) -> None:
        try:
            self._write_pending()
        except Exception as error:
            self.failure = error
            raise
        self.failure = None

    def _write_pending(self) -> None:
        with self._changed:
            batches, self._pending = self._pending, []
        if batches:
            # One message for all of them: small batches would cost more in framing than in data.
            self._encoding.append(pa.concat_batches(batches) if len(batches) > 1 else batches[0])
        if self._active is not None:
            self._settle(self._active)
        while self._encoding:
            if self._active is None:
                self._active = GrowingSegment(segment_path(self.folder, self._durable_rows), self.schema)
            batch = self._encoding.popleft()
            room = self._rows_per_segment - self._active.num_rows
            self._active.write(batch.slice(0, room))
            if batch.num_rows > room:
                self._encoding.appendleft(batch.slice(room))
            self._settle(self._active)
        with self._changed:
            self._pending_bytes = sum(batch.get_total_buffer_size() for batch in self._pending)

    def _settle(self, active: GrowingSegment) -> None:
        """Make the active segment durable, and seal it when it is full; continues where an earlier failure stopped."""
        active.flush()
        self._durable_rows = int(active.path.stem) + active.num_rows
        if active.is_finishing or active.num_rows >= self._rows_per_segment:
            self._finish_active()

    def _finish_active(self) -> Path | None:
        if self._active is None:
            return None
        path = self._active.path
        self._active.finish()
        self._active = None
        return path


def read_facts(folder: Path) -> tuple[str, pa.Schema]:
    """Return (log id, schema) of the log in a folder; NotFoundError when there is none."""
    try:
        facts: dict[str, Any] = decode((folder / FACTS_NAME).read_bytes())
    except FileNotFoundError as error:
        raise NotFoundError(
            f"cannot read a log in {folder}: it has no {FACTS_NAME}", next_step="check the path of the log's folder"
        ) from error
    return facts["log_id"], pa.ipc.read_schema(pa.py_buffer(base64.b64decode(facts["schema"])))


def _open_facts(folder: Path, schema: pa.Schema) -> str:
    if any(pa.types.is_dictionary(field.type) for field in schema):
        raise UnsupportedError("cannot log dictionary-encoded columns", next_step="log the plain values")
    try:
        log_id, found = read_facts(folder)
    except NotFoundError:
        facts = {
            "format": 1,
            "log_id": new_token(6),
            "columns": {field.name: str(field.type) for field in schema},
            "schema": base64.b64encode(schema.serialize()).decode(),
        }
        write_atomic(folder / FACTS_NAME, pretty(facts).encode())
        return str(facts["log_id"])
    if not found.equals(schema):
        raise _other_schema(folder, found, schema)
    return log_id


def _recover_all(folder: Path, schema: pa.Schema) -> int:
    """Return the number of rows in the log, after sealing a segment that a killed writer left open."""
    for leftover in folder.glob(".*.tmp"):
        leftover.unlink()
    segments = list_segments(folder)
    if not segments:
        return 0
    # Only the last can be open: a segment is begun after the one before it was sealed.
    first_row, path = segments[-1]
    return first_row + recover(path, schema)


def _other_schema(folder: Path, expected: pa.Schema, found: pa.Schema) -> SchemaError:
    differing = sorted(
        name
        for name in {*expected.names, *found.names}
        if expected.get_field_index(name) < 0
        or found.get_field_index(name) < 0
        or not expected.field(name).equals(found.field(name))
    )
    return SchemaError(
        f"cannot append to the log {folder}: columns {differing or 'in another order'} differ; "
        f"expected {[f'{field.name}: {field.type}' for field in expected]}, "
        f"found {[f'{field.name}: {field.type}' for field in found]}",
        next_step="use another folder for other columns",
    )
