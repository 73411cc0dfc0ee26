"""Compressed files, told by their first bytes: gzip, zstd, bzip2 and LZ4, read as a stream."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PurePath
from typing import Any

import pyarrow as pa

from shoal.base import SourceError

_MAGIC = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"BZh": "bz2", b"\x04\x22\x4d\x18": "lz4"}
_SUFFIXES = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2", ".lz4": "lz4"}
HEAD_BYTES = 16


def compression_of(head: bytes) -> str | None:
    """Return how bytes are compressed, told by how they begin; None when they are not."""
    return next((name for magic, name in _MAGIC.items() if head.startswith(magic)), None)


def uncompressed_name(name: str) -> str:
    """Return a file's name without the suffix that says it is compressed: "a.csv.gz" is a CSV."""
    return name.removesuffix(PurePath(name).suffix) if PurePath(name).suffix.lower() in _SUFFIXES else name


@contextmanager
def decompressed(stream: Any, head: bytes, name: str) -> Iterator[Any]:  # noqa: ANN401 - any object with `read`
    """Give the stream's content, decompressed where its first bytes (`head`, not consumed) say so.

    Raises:
        SourceError: while reading in the block, when the compressed data is damaged or ends early.
    """
    kind = compression_of(head)
    if kind is None:
        yield stream
        return
    with _Named(pa.CompressedInputStream(pa.PythonFile(stream, "r"), kind), name, kind) as opened:
        yield opened


class _Named:
    """A decompressing stream whose errors name the file; it ends with an error when its data ends too early."""

    def __init__(self, stream: Any, name: str, kind: str) -> None:  # noqa: ANN401 - pyarrow ships no types
        self._stream = stream
        self._name = name
        self._kind = kind

    def __enter__(self) -> "_Named":
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()

    def read(self, size: int) -> bytes:
        try:
            data: bytes = self._stream.read(size)
        except (OSError, pa.ArrowException) as error:
            raise SourceError(
                f"cannot read {self._name}: its {self._kind} data is damaged or truncated ({error})",
                next_step="get the file again",
            ) from error
        return data
