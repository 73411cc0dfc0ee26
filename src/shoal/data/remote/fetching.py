"""A whole object into a file, by ranges at once, each checked as it comes: right to the last bit, or an error."""

import base64
import errno
import os
from collections.abc import Callable, Iterator
from concurrent.futures import wait
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from xxhash import xxh3_64

from shoal.base import CorruptError, RemoteError, report_full_storage
from shoal.data.remote.objects import NoRangesError, ObjectStore
from shoal.data.remote.requests import request_pool
from shoal.data.remote.retrying import TransientError
from shoal.data.storage.chunks import chunk_sums

# As many as a system takes in one call, at least.
_MAX_PARTS = 16
# Bytes that differ come from a changed object or a broken line; both are told from damage by looking again.
_MAX_CONTENTS = 4


class _DifferentError(TransientError):
    """The content was not the expected one."""


class _CheckedRange:
    """Sums a range of a file as it comes and writes chunk by chunk what is right; all before `right` is written."""

    def __init__(self, descriptor: int, start: int, stop: int, sums: list[int], chunk_bytes: int) -> None:
        self._descriptor = descriptor
        self._stop = stop
        self._sums = sums
        self._chunk_bytes = chunk_bytes
        self.right = start
        self.restart()

    def restart(self) -> None:
        """Take what follows as the bytes from `right` on, where a chunk begins."""
        self._parts: list[memoryview] = []
        self._sum = xxh3_64()
        self._missing = min(self._chunk_bytes, self._stop - self.right)

    def add(self, data: memoryview) -> None:
        """Take the next bytes; _DifferentError when they complete a chunk that is another than expected."""
        while len(data):
            part, data = data[: self._missing], data[self._missing :]
            self._sum.update(part)
            self._parts.append(part)
            self._missing -= len(part)
            if not self._missing:
                self._finish_chunk()

    def _finish_chunk(self) -> None:
        if self._sum.intdigest() != self._sums[self.right // self._chunk_bytes]:
            raise _DifferentError(f"the bytes from {self.right} on have another sum than expected")
        # Whole chunks: writes that begin inside of a page took the system a tenth longer (ext4, Linux 6.18, 2026-11).
        self.right = _write_all(self._descriptor, self._parts, self.right)
        self.restart()


@dataclass(frozen=True, slots=True)
class Content:
    """What a file must hold: its size, and the sums of its chunks as `chunks.chunk_sums` gives them."""

    size_bytes: int
    sums: str
    chunk_bytes: int

    def decoded_sums(self) -> list[int]:
        """Return the sums as numbers."""
        sums: list[int] = np.frombuffer(base64.b64decode(self.sums), "<u8").tolist()
        return sums


def fetch_file(store: ObjectStore, key: str, target: Path, content: Content, *, num_together: int = 1) -> None:
    """Write an object to `target`, and return only if that holds the expected content.

    It comes in ranges, as many at once as the settings say. What comes is summed while it is in the processor's cache
    and written when a chunk is right; what breaks off is asked for from there on, and what is wrong from the last right
    chunk on. Memory holds the chunks under way. The file is not flushed, as it is a copy. On any error it may be there
    in part.

    Args:
        store: who has it.
        key: under which name.
        target: where to write.
        content: what it must be.
        num_together: how many files the caller fetches at once; they share the requests, and come in fewer, longer
            ranges.

    Raises:
        NotFoundError: there is no such object.
        RemoteError: the store failed until the deadline.
        CorruptError: the store answers, but what it gives is something else, again and again.
        StorageFullError: no room for the file.
    """
    with report_full_storage(target):
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        try:
            _fetch_ranges(store, key, descriptor, content, num_together)
        except NoRangesError:
            _persist(store, key, lambda: _fetch_stream(store, key, target, content))
        finally:
            os.close(descriptor)


def _fetch_ranges(store: ObjectStore, key: str, descriptor: int, content: Content, num_together: int) -> None:
    settings = store.retrier.settings
    # Each request costs both sides a millisecond, so there are no more than keep the line busy.
    wanted = max(settings.range_bytes, -(-content.size_bytes * num_together // settings.num_requests))
    # Whole chunks, so that each range is checked by itself.
    step = -(-wanted // content.chunk_bytes) * content.chunk_bytes
    sums = content.decoded_sums()

    def fetch(start: int) -> None:
        stop = min(start + step, content.size_bytes)
        taken = _CheckedRange(descriptor, start, stop, sums, content.chunk_bytes)

        def attempt() -> None:
            taken.restart()
            for piece in store.read_pieces(key, taken.right, stop):
                if piece.facts.size_bytes != content.size_bytes:
                    raise _DifferentError(f"it has {piece.facts.size_bytes} bytes, expected {content.size_bytes}")
                taken.add(piece.data)

        _persist(store, key, attempt)

    if content.size_bytes > settings.range_bytes:
        _allocate(descriptor, content.size_bytes)
    starts = range(0, content.size_bytes, step)
    if len(starts) == 1:
        fetch(0)
        return
    pool = request_pool(settings.num_requests)
    futures = [pool.submit(fetch, start) for start in starts]
    try:
        for future in futures:
            future.result()
    finally:
        for future in futures:
            future.cancel()
        # None may still write when the file is closed and its descriptor is another's.
        wait(futures)


def _fetch_stream(store: ObjectStore, key: str, target: Path, content: Content) -> None:
    facts, pieces = store.stream(key)
    if facts.size_bytes == content.size_bytes:
        with target.open("wb") as sink:
            for data in pieces:
                sink.write(data)
    if target.stat().st_size != content.size_bytes or chunk_sums(target) != (content.sums, content.chunk_bytes):
        raise _DifferentError(f"{facts.size_bytes} bytes came, expected {content.size_bytes} with other sums")


def _persist(store: ObjectStore, key: str, attempt: Callable[[], None]) -> None:
    try:
        store.retrier.call(lambda: f"fetch {store.location.child(key)}", attempt, max_attempts=_MAX_CONTENTS)
    except RemoteError as error:
        if not isinstance(error.__cause__, _DifferentError):
            raise
        raise CorruptError(
            f"{store.location.child(key)} is damaged or was replaced: {_MAX_CONTENTS} times {error.__cause__}",
            next_step="restore the object from a copy (shoal data repair), or ingest the source again",
        ) from error


def _allocate(descriptor: int, size_bytes: int) -> None:
    # Full length at once: a full disk says so before anything is fetched, and whoever adds up the cache's size counts
    # what is under way.
    if hasattr(os, "posix_fallocate") and size_bytes:
        with _unless_unsupported():
            os.posix_fallocate(descriptor, 0, size_bytes)
            return
    os.ftruncate(descriptor, size_bytes)


@contextmanager
def _unless_unsupported() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
            raise


def _write_all(descriptor: int, parts: list[memoryview], start: int) -> int:
    """Write the parts one behind the other and return where they end."""
    while parts:
        written = os.pwritev(descriptor, parts[:_MAX_PARTS], start)
        start += written
        while parts and written >= len(parts[0]):
            written -= len(parts.pop(0))
        if written:
            parts[0] = parts[0][written:]
    return start
