"""One file to read, on a disk or behind a URL: streamed, decompressed, digested on the way, and watched for change."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa

from shoal.base import Digester, SourceError
from shoal.data.remote.location import is_url
from shoal.data.sources.compression import HEAD_BYTES, decompressed, uncompressed_name

_COPY_BYTES = 4 << 20
# What other kinds of file begin with: a wrong suffix is told by its content and not by a strange parsing error.
_BINARY = {b"PAR1": "a Parquet file", b"ARROW1": "an Arrow file", b"PK\x03\x04": "a zip or Excel file"}
_WIDE = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}


class Input:
    """A file by its path or URL; `digest` is there once all of it was read. Opened as often as one likes."""

    def __init__(self, address: str | Path) -> None:
        self.is_remote = is_url(address)
        self.name = str(address) if self.is_remote else str(Path(address).expanduser().absolute())
        self.digest: str | None = None

    @property
    def path(self) -> Path:
        """Where the file is, if it is on this machine."""
        return Path(self.name)

    @property
    def title(self) -> str:
        """The file's own name, without folders and options."""
        return PurePosixPath(self.name.partition("?")[0] if self.is_remote else self.name).name

    @property
    def suffix(self) -> str:
        """The suffix that says what the file is, in lower case: ".csv" for "a.CSV.gz"."""
        return PurePosixPath(uncompressed_name(self.title)).suffix.lower()

    @property
    def size_bytes(self) -> int | None:
        """Bytes of the file; None where only reading it would tell."""
        return None if self.is_remote else self.path.stat().st_size

    @contextmanager
    def stream(self) -> Iterator[Any]:
        """Give the content as a stream with `read(size)`, decompressed; read to its end, it sets `digest`.

        Raises:
            SourceError: the file is missing, damaged, or was changed while it was read.
        """
        with self._open() as raw:
            counted = _Digesting(raw)
            with decompressed(counted, counted.peek(HEAD_BYTES), self.name) as content:
                yield content
            if counted.is_at_end():
                self.digest = counted.digester.digest()

    @contextmanager
    def local_copy(self) -> Iterator[Path]:
        """Give a path with the whole file, for formats that are read from their end; a remote one is fetched for it."""
        if not self.is_remote:
            with self.unchanged():
                yield self.path
            return
        with tempfile.TemporaryDirectory(prefix="shoal-") as folder:
            path = Path(folder) / "copy"
            with self.stream() as content, path.open("wb") as copy:
                shutil.copyfileobj(content, copy, _COPY_BYTES)
            yield path

    @contextmanager
    def ranges(self) -> Iterator[Any]:
        """Give what pyarrow reads parts of the file from: its path, or a remote file that can be sought."""
        if not self.is_remote:
            yield self.path
            return
        with self._open() as remote:
            yield pa.PythonFile(remote, "r")

    @contextmanager
    def unchanged(self) -> Iterator[None]:
        """Raise SourceError at the end of the block when the file was changed in it; a remote one is not watched."""
        if self.is_remote:
            yield
            return
        before = self._state()
        yield
        after = self._state()
        if before != after:
            raise SourceError(
                f"{self.name} was changed while it was read: it had {before[0]} bytes, and now has {after[0]} "
                "and another time of change or identity",
                next_step="read it again once nobody writes to it, or read a copy",
            )

    def check_text(self, head: bytes) -> None:
        """Raise SourceError when a file that should be text begins like something else, or is empty."""
        found = next((what for magic, what in {**_BINARY, **_WIDE}.items() if head.startswith(magic)), None)
        if found is not None:
            raise SourceError(
                f"cannot read {self.name}: it should be text in UTF-8, and begins like {found}",
                next_step="give the file the suffix that says what it is, or convert it to UTF-8",
            )
        if not head:
            raise self.is_empty()

    def is_empty(self) -> SourceError:
        """The error for a file with no bytes in it."""
        return SourceError(f"cannot read {self.name}: it is empty", next_step="leave the file out, or make it again")

    @contextmanager
    def _open(self) -> Iterator[Any]:
        if self.is_remote:
            from shoal.data.remote.reading import open_url  # a source on this machine does not load the clients

            with open_url(self.name)[0] as remote:
                yield remote
            return
        with self.unchanged(), self.path.open("rb", buffering=0) as raw:
            yield raw

    def _state(self) -> tuple[int, int, int]:
        try:
            found = os.stat(self.path)  # noqa: PTH116 - one call for size, time and identity
        except FileNotFoundError as error:
            raise SourceError(f"cannot read {self.name}: there is no such file", next_step="check the path") from error
        return found.st_size, found.st_mtime_ns, found.st_ino


class _Digesting:
    """A stream that digests what is read from it; as much of a file as pyarrow needs to decompress it."""

    closed = False

    def __init__(self, raw: Any) -> None:  # noqa: ANN401 - any object with `read`
        self._raw = raw
        self._head = b""
        self.digester = Digester()

    def peek(self, size: int) -> bytes:
        while len(self._head) < size and (piece := self._raw.read(size - len(self._head))):
            self._head += bytes(piece)
        return self._head

    def read(self, size: int = -1) -> bytes:
        head, self._head = self._head, b""
        data = head if 0 <= size <= len(head) else head + bytes(self._raw.read(size - len(head) if size >= 0 else -1))
        self._head, data = (data[size:], data[:size]) if 0 <= size < len(data) else (b"", data)
        self.digester.update(data)
        return data

    def is_at_end(self) -> bool:
        return not self._head and not self._raw.read(1)

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return False

    def seekable(self) -> bool:
        return False

    def flush(self) -> None:
        """Nothing waits to be written."""

    def close(self) -> None:
        """The raw stream is closed by who opened it."""
