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
from xxhash import xxh3_64_intdigest

from shoal.base import CorruptError, RemoteError, report_full_storage
from shoal.data.remote.objects import NoRangesError, ObjectStore
from shoal.data.remote.requests import request_pool
from shoal.data.remote.retrying import TransientError
from shoal.data.storage.chunks import chunk_sums

# At most so many bytes a write: 8 MiB at once took three times the system time of 512 KiB (ext4 in a virtual machine,
# Linux 6.18, two busy cores, 2026-11), and what was just summed is still in the processor's cache.
_WRITE_BYTES = 512 << 10
# Bytes that differ come from a changed object or a broken line; both are told from damage by looking again.
_MAX_CONTENTS = 4


class _DifferentError(TransientError):
    """The content was not the expected one."""


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


def fetch_file(store: ObjectStore, key: str, target: Path, content: Content) -> None:
    """Write an object to `target`, and return only if that holds the expected content.

    Ranges are fetched at once, as many as the settings say, checked while they are in the processor's cache, and
    written where they belong; a wrong one is asked for again. Memory is bounded by them. The file is not flushed, as
    it is a copy. On any error it may be there in part.

    Raises:
        NotFoundError: there is no such object.
        RemoteError: the store failed until the deadline.
        CorruptError: the store answers, but what it gives is something else, again and again.
        StorageFullError: no room for the file.
    """
    with report_full_storage(target):
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        try:
            _fetch_ranges(store, key, descriptor, content)
        except NoRangesError:
            _persist(store, key, lambda: _fetch_stream(store, key, target, content))
        finally:
            os.close(descriptor)


def _fetch_ranges(store: ObjectStore, key: str, descriptor: int, content: Content) -> None:
    settings = store.retrier.settings
    # Whole chunks, so that each range is checked by itself.
    step = max(settings.range_bytes // content.chunk_bytes, 1) * content.chunk_bytes
    sums = content.decoded_sums()

    def fetch(start: int) -> None:
        stop = min(start + step, content.size_bytes)

        def attempt() -> None:
            piece = store.read_range(key, start, stop)
            if piece.facts.size_bytes != content.size_bytes:
                raise _DifferentError(f"it has {piece.facts.size_bytes} bytes, expected {content.size_bytes}")
            _write_checked(descriptor, piece.data, start, sums, content.chunk_bytes)

        _persist(store, key, attempt)

    starts = range(0, content.size_bytes, step)
    if len(starts) == 1:
        fetch(0)
        return
    _allocate(descriptor, content.size_bytes)
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


def _write_checked(descriptor: int, data: memoryview, start: int, sums: list[int], chunk_bytes: int) -> None:
    step = max(_WRITE_BYTES // chunk_bytes, 1) * chunk_bytes
    for first in range(0, len(data), step):
        part = data[first : first + step]
        for offset in range(0, len(part), chunk_bytes):
            at = start + first + offset
            if xxh3_64_intdigest(part[offset : offset + chunk_bytes]) != sums[at // chunk_bytes]:
                raise _DifferentError(f"the bytes from {at} on have another sum than expected")
        _write_all(descriptor, part, start + first)


def _write_all(descriptor: int, data: memoryview, start: int) -> None:
    while len(data):
        written = os.pwrite(descriptor, data[:_WRITE_BYTES], start)
        data, start = data[written:], start + written
