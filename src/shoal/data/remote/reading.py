"""A remote object as a file: read from the front it streams, ranges ahead of the reader, and it never ends early."""

import io
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future

from shoal.base import InputError, RemoteError, SourceError
from shoal.data.remote.location import parse_location
from shoal.data.remote.objects import NoRangesError, ObjectFacts, ObjectStore, Piece
from shoal.data.remote.requests import request_pool
from shoal.data.remote.retrying import Retrier, TransientError


def open_url(
    url: str, *, options: Mapping[str, object] | None = None, retrier: Retrier | None = None
) -> tuple[io.BufferedReader, int]:
    """Open an object for reading in binary and return it with its size in bytes.

    The file can be sought where the server gives ranges. Memory is bounded by a few ranges. An object that changes
    while it is read is a SourceError, and one that ends early is asked for again: what is read is whole or an error.
    To be read by one thread at a time.

    Args:
        url: what to open.
        options: for the store, added to those in the URL.
        retrier: how patient to be.

    Raises:
        NotFoundError: there is no such object.
        RemoteError: the store does not answer, or refuses.
    """
    location = parse_location(url, options)
    plain, _, query = location.url.partition("?")
    parent = parse_location(f"{plain.rpartition('/')[0]}{'?' if query else ''}{query}", dict(location.options))
    store, key = ObjectStore(parent, retrier), plain.rpartition("/")[2]
    facts = _facts(store, key)
    raw = _RemoteFile(store, key, facts)
    return io.BufferedReader(raw, 1 << 18), facts.size_bytes


def _facts(store: ObjectStore, key: str) -> ObjectFacts:
    try:
        return store.facts(key)
    except RemoteError:
        # A signed address may be good for GET alone.
        return store.read_range(key, 0, 1).facts


class _RemoteFile(io.RawIOBase):
    def __init__(self, store: ObjectStore, key: str, facts: ObjectFacts) -> None:
        self._store = store
        self._key = key
        self._facts = facts
        self._settings = store.retrier.settings
        self._position = 0
        self._current: memoryview = memoryview(b"")
        self._current_start = 0
        self._ahead: deque[tuple[int, Future[Piece]]] = deque()
        self._num_in_sequence = 0
        # Set when the server turns out to send whole objects only.
        self._stream: Iterator[bytes] | None = None
        self._stream_at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return self._stream is None

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._facts.size_bytes}[whence]
        if base + offset < 0:
            raise InputError(f"cannot seek to {base + offset}", next_step="seek to 0 or later")
        self._position = base + offset
        return self._position

    def readinto(self, target: object) -> int:
        view = memoryview(target).cast("B")  # type: ignore[arg-type]  # a writable buffer, by the protocol
        if self._position >= self._facts.size_bytes or not len(view):
            return 0
        offset = self._position - self._current_start
        if not 0 <= offset < len(self._current):
            self._load(self._position)
            offset = self._position - self._current_start
        num_bytes = min(len(view), len(self._current) - offset)
        view[:num_bytes] = self._current[offset : offset + num_bytes]
        self._position += num_bytes
        return num_bytes

    def close(self) -> None:
        for _, future in self._ahead:
            future.cancel()
        self._ahead.clear()
        super().close()

    def _load(self, start: int) -> None:
        if self._stream is not None:
            self._load_streamed(start)
            return
        try:
            piece = self._next_piece(start)
        except NoRangesError:
            self._restart()
            self._load_streamed(start)
            return
        if _identity(piece.facts) != _identity(self._facts):
            raise self._changed()
        self._current, self._current_start = piece.data, start

    def _next_piece(self, start: int) -> Piece:
        step, size = self._settings.range_bytes, self._facts.size_bytes
        if self._ahead and self._ahead[0][0] != start:
            # The reader jumped: what was asked for ahead is of no use.
            for _, future in self._ahead:
                future.cancel()
            self._ahead.clear()
            self._num_in_sequence = 0
        elif start == self._current_start + len(self._current):
            self._num_in_sequence += 1
        pool = request_pool(self._settings.num_requests)
        at = self._ahead[-1][0] + step if self._ahead else start
        # One range at first, as a footer may be all that is wanted; from the second on, as many as keep the line busy.
        wanted = self._settings.num_requests if self._num_in_sequence > 1 else 1
        while len(self._ahead) < wanted and at < size:
            self._ahead.append((at, pool.submit(self._store.read_range, self._key, at, min(at + step, size))))
            at += step
        return self._ahead.popleft()[1].result()

    def _load_streamed(self, start: int) -> None:
        if start < self._stream_at - len(self._current):
            self._restart()

        def load() -> bytes:
            try:
                while True:
                    data = self._next_streamed()
                    if self._stream_at > start:
                        return data
            except TransientError:
                self._restart()
                raise

        data = self._store.retrier.call(f"read {self._store.location.child(self._key)}", load)
        self._current, self._current_start = memoryview(data), self._stream_at - len(data)

    def _next_streamed(self) -> bytes:
        assert self._stream is not None
        data = next(self._stream, b"")
        if not data:
            raise TransientError(f"the answer ended at byte {self._stream_at} of {self._facts.size_bytes}")
        self._stream_at += len(data)
        return data

    def _restart(self) -> None:
        facts, self._stream = self._store.stream(self._key)
        self._stream_at = 0
        if _identity(facts) != _identity(self._facts):
            raise self._changed()

    def _changed(self) -> SourceError:
        return SourceError(
            f"{self._store.location.child(self._key)} changed while it was read: its start belongs to another version "
            "than the rest",
            next_step="read it again when nobody writes it",
        )


def _identity(facts: ObjectFacts) -> tuple[object, ...]:
    return facts.size_bytes, facts.e_tag, facts.modified if facts.e_tag is None else None
