"""A store, a web server or a folder by its URL, through obstore: requests are retried, and failures are clear."""

import re
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any

from shoal.base import ConfigError, ConflictError, NotFoundError, RemoteError, UnsupportedError
from shoal.data.remote.forking import is_forked_child, note_use
from shoal.data.remote.location import Location
from shoal.data.remote.retrying import RemoteSettings, Result, Retrier, TransientError

_STATUS = re.compile(r"status code: (\d{3})")
_PASSING = frozenset({408, 425, 429})
_MULTIPART_BYTES = 8 << 20
# Smaller ones are joined, which costs a copy: as the line gives them they have some 400 KiB, on loopback.
_PIECE_BYTES = 64 << 10


class NoRangesError(Exception):
    """The server sends whole objects only; never leaves the remote folder."""


@dataclass(frozen=True, slots=True)
class ObjectFacts:
    """What a store says of an object. Two answers about an unchanged object have equal facts."""

    key: str
    size_bytes: int
    e_tag: str | None
    modified: str | None


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes of an object, and what the store said of the object when it sent them."""

    data: memoryview
    facts: ObjectFacts


class ObjectStore:
    """What lies below one URL; keys are paths below it. Any number of threads may use it; it does not travel.

    Each method retries what may pass (stalls, resets, short answers, 5xx, 429) until the deadline of the settings.

    Raises:
        NotFoundError: nothing bears the key.
        RemoteError: the deadline passed, or access was refused.
    """

    def __init__(self, location: Location, retrier: Retrier | None = None) -> None:
        self.location = location
        self.retrier = retrier or Retrier()
        self._lock = threading.Lock()
        self._made: Any = None

    def read(self, key: str) -> bytes:
        """Return a whole object, meant for small ones."""
        return bytes(self._retried("read", key, lambda: self._get(key, None).data))

    def read_range(self, key: str, start: int, stop: int) -> Piece:
        """Return bytes start..stop-1 of an object, fewer only at its end.

        Raises:
            NoRangesError: the server does not give parts.
        """
        return self._retried("read", key, lambda: self._get(key, (start, stop)))

    def read_pieces(self, key: str, start: int, stop: int) -> Iterator[Piece]:
        """Yield bytes start..stop-1 of an object in order, in pieces of any size, as they come; fewer only at its end.

        A request that breaks off is asked again for what is missing, and has the deadline anew, as something came.
        Whether all pieces are of one object, their facts say; nothing but the piece under way is in memory.

        Raises:
            NoRangesError: the server does not give parts.
        """
        while start < stop:
            facts, first, rest = self._retried("read", key, lambda: self._begin(key, start, stop))  # noqa: B023  # at once
            stop = min(stop, facts.size_bytes)
            with suppress(TransientError):
                for data in chain((first,), rest):
                    # What a server sends beyond is nothing that was asked for.
                    piece = Piece(data[: max(stop - start, 0)], facts)
                    start += len(data)
                    yield piece

    def facts(self, key: str) -> ObjectFacts:
        """Return size and identity of an object."""
        return self._retried("find", key, lambda: _facts(_obstore().head(self._store(), key)))

    def has(self, key: str) -> bool:
        """Whether there is such an object."""
        try:
            self.facts(key)
        except NotFoundError:
            return False
        return True

    def stream(self, key: str) -> tuple[ObjectFacts, Iterator[bytes]]:
        """Return facts and the pieces of a whole object from one request; reading them raises TransientError."""

        def pieces(result: Any) -> Iterator[bytes]:  # noqa: ANN401  # obstore's own
            with self._translated(key):
                for piece in result.stream(min_chunk_size=1 << 20):
                    yield bytes(piece)

        result = self._retried("read", key, lambda: _obstore().get(self._store(), key))
        return _facts(result.meta), pieces(result)

    def names(self, prefix: str = "") -> list[ObjectFacts]:
        """Return all objects below a prefix (whole parts of the path), sorted by key.

        Raises:
            UnsupportedError: this is a web server, which cannot be listed.
        """
        if self.location.scheme in ("http", "https"):
            raise UnsupportedError(
                f"cannot list {self.location}: a web server does not say what it has",
                next_step="name the files, or use the store's own scheme, such as s3://",
            )

        def collect() -> list[ObjectFacts]:
            batches = _obstore().list(self._store(), prefix or None)
            return sorted((_facts(meta) for batch in batches for meta in batch), key=lambda facts: facts.key)

        return self._retried("list", prefix, collect)

    def write(self, key: str, content: bytes | memoryview | Path) -> None:
        """Put an object whole, in several parts when it is large; what bore the key before is replaced."""

        def put() -> None:
            _obstore().put(self._store(writes=True), key, content, chunk_size=_MULTIPART_BYTES, max_concurrency=4)

        self._retried("write", key, put)

    def create(self, key: str, content: bytes) -> None:
        """Put an object under a key that is still free: of several rivals exactly one returns.

        Raises:
            ConflictError: the key was taken, with other content.
            UnsupportedError: a web server, which cannot decide between rivals.
        """

        def put() -> None:
            _obstore().put(self._store(writes=True), key, content, mode="create")

        try:
            self._retried("create", key, put)
        except ConflictError:
            # An attempt whose answer was lost may have been ours: then what is there is what we wrote.
            if self.read(key) != content:
                raise

    def delete(self, keys: Sequence[str]) -> None:
        """Remove objects; those that are not there count as removed."""

        def remove() -> None:
            for key in keys if self.location.scheme == "file" else [list(keys)]:
                try:
                    _obstore().delete(self._store(writes=True), key)
                except FileNotFoundError:
                    continue

        if keys:
            self._retried("delete", keys[0], remove)

    def _store(self, *, writes: bool = False) -> Any:  # noqa: ANN401  # obstore's stores share no base
        if is_forked_child():
            raise UnsupportedError(
                f"cannot use {self.location} in a process that was forked from one which had used a store",
                next_step="start workers by spawn instead of fork, or open the dataset before them",
            )
        note_use()
        with self._lock:
            if self._made is None:
                if self.location.scheme == "file":
                    _check_folder(Path(self.location.url.removeprefix("file://")), make=writes)
                self._made = _make_store(self.location, self.retrier.settings)
            return self._made

    def _get(self, key: str, span: tuple[int, int] | None) -> Piece:
        result = _obstore().get(self._store(), key, options={"range": span} if span else None)
        facts = _facts(result.meta)
        start, stop = span or (0, facts.size_bytes)
        data = memoryview(result.bytes())
        if len(data) != (expected := min(stop, facts.size_bytes) - start):
            raise TransientError(f"{len(data)} bytes came, expected {expected}")
        return Piece(data, facts)

    def _begin(self, key: str, start: int, stop: int) -> tuple[ObjectFacts, memoryview, Iterator[memoryview]]:
        result = _obstore().get(self._store(), key, options={"range": (start, stop)})
        pieces = self._pieces(key, result)
        # With a piece in hand the attempt has brought something: a server that only promises fails here.
        if (first := next(pieces, None)) is None:
            raise TransientError(f"nothing came, expected {stop - start} bytes")
        return _facts(result.meta), first, pieces

    def _pieces(self, key: str, result: Any) -> Iterator[memoryview]:  # noqa: ANN401  # obstore's own
        with self._translated(key):
            for piece in result.stream(min_chunk_size=_PIECE_BYTES):
                yield memoryview(piece)

    def _retried(self, verb: str, key: str, attempt: Callable[[], Result]) -> Result:
        def guarded() -> Result:
            with self._translated(key):
                return attempt()

        return self.retrier.call(lambda: f"{verb} {self.location.child(key)}", guarded)

    @contextmanager
    def _translated(self, key: str) -> Iterator[None]:
        try:
            yield
        except (FileNotFoundError, NotADirectoryError) as error:
            raise NotFoundError(
                f"cannot find {self.location.child(key)}: the store has no such object", next_step="check the URL"
            ) from error
        except NotImplementedError as error:
            raise UnsupportedError(
                f"cannot change {self.location.child(key)}: {_first_line(error)}",
                next_step="use a store that can be written safely, such as s3://, gs://, az:// or a folder",
            ) from error
        except _obstore_errors() as error:
            raise _translation(error, str(self.location.child(key))) from error


def _translation(error: Exception, url: str) -> Exception:
    kind, said = type(error).__name__, _first_line(error)
    status = int(found[1]) if (found := _STATUS.search(str(error))) else None
    if kind == "NotSupportedError" or "non-partial response" in said:
        return NoRangesError(said)
    if kind in ("AlreadyExistsError", "PreconditionError"):
        return ConflictError(f"cannot create {url}: it exists already", next_step="read what is there, then go on")
    if kind == "UnknownConfigurationKeyError":
        return ConfigError(f"cannot use {url}: {said}", next_step="see the options that obstore has for this store")
    if kind in ("PermissionDeniedError", "UnauthenticatedError"):
        return RemoteError(
            f"cannot use {url}: access was refused ({said})",
            next_step="give credentials in the environment (AWS_ACCESS_KEY_ID, GOOGLE_APPLICATION_CREDENTIALS, ...)",
        )
    if kind == "InvalidPathError" or (status is not None and 400 <= status < 500 and status not in _PASSING):
        return RemoteError(f"cannot use {url}: {said}", next_step="check the URL and its options")
    return TransientError(said)


def _make_store(location: Location, settings: RemoteSettings) -> Any:  # noqa: ANN401  # obstore's stores share no base
    obstore = _obstore()
    scheme = location.scheme
    if scheme == "file":
        return obstore.store.LocalStore(Path(location.url.removeprefix("file://")))
    options = dict(location.options)
    endpoint = options.get("endpoint", location.url if scheme == "http" else "")
    allow_http = options.pop("allow_http", str(endpoint.startswith("http://")).lower()) == "true"
    client = {
        # Bare seconds of one request as a whole are no measure of a stall: a long answer on a slow line is well.
        "timeout": timedelta(seconds=max(settings.deadline_s, 30.0)),
        "read_timeout": timedelta(seconds=settings.stall_s),
        "connect_timeout": timedelta(seconds=min(settings.stall_s, 5.0)),
        "pool_max_idle_per_host": str(settings.num_requests * 2),
        "allow_http": allow_http,
    }
    # Retries are ours alone: nested ones would multiply, and hide how often a store failed.
    never = {"max_retries": 0, "retry_timeout": timedelta(seconds=0)}
    try:
        if scheme in ("http", "https"):
            return obstore.store.HTTPStore(location.url, client_options=client, retry_config=never)
        return obstore.store.from_url(location.url, config=options, client_options=client, retry_config=never)
    except (ValueError, _obstore_errors()) as error:
        raise ConfigError(
            f"cannot reach {location}: {_first_line(error)}", next_step="check the URL, its options and the environment"
        ) from error


def _check_folder(folder: Path, *, make: bool) -> None:
    if make:
        folder.mkdir(parents=True, exist_ok=True)
    if not folder.is_dir():
        raise FileNotFoundError(folder)


def _facts(meta: Any) -> ObjectFacts:  # noqa: ANN401  # obstore's dict
    modified = meta["last_modified"]
    return ObjectFacts(meta["path"], meta["size"], meta["e_tag"], modified.isoformat() if modified else None)


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]


@lru_cache(maxsize=1)
def _obstore() -> Any:  # noqa: ANN401  # an optional package
    try:
        import obstore
        import obstore.exceptions
        import obstore.store
    except ImportError as error:
        raise UnsupportedError(
            "cannot read from URLs: the package obstore is not installed", next_step="pip install 'shoal[remote]'"
        ) from error
    return obstore


def _obstore_errors() -> type[Exception]:
    kind: type[Exception] = _obstore().exceptions.BaseError
    return kind
