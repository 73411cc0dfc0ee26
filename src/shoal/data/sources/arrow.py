"""Arrow IPC files, streams and Feather files as a source: mapped from disk, or streamed."""

import os
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pyarrow as pa

from shoal.data.sources.finding import find_inputs
from shoal.data.sources.inputs import Input
from shoal.data.sources.typed_files import TypedFileSource, TypedFormat

_MAGIC = b"ARROW1"
# The file format is its magic, padded to 8 bytes, and then a stream: so one that cannot be mapped can be streamed.
_PADDED_MAGIC_BYTES = 8


class ArrowSource(TypedFileSource):
    """Rows of Arrow IPC files, IPC streams and Feather files, told apart by their first bytes."""

    def __init__(self, paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]]) -> None:
        """Say which files.

        Args:
            paths: a file, several, a pattern such as "clicks/*.arrow", a folder of them, or URLs; gzip and zstd are
                seen.

        Raises:
            SourceError: no such file.
        """
        super().__init__(find_inputs(paths, (".arrow", ".arrows", ".feather", ".ipc")), _ArrowFormat())

    @staticmethod
    def of_inputs(inputs: Sequence[Input]) -> TypedFileSource:
        """Read files that have been found already."""
        return TypedFileSource(inputs, _ArrowFormat())


class _ArrowFormat:
    def schema(self, file: Input) -> pa.Schema:
        with _opened(file) as reader:
            return reader.schema

    def batches(self, file: Input) -> Generator[pa.RecordBatch]:
        with _opened(file) as reader:
            if isinstance(reader, pa.RecordBatchFileReader):
                for index in range(reader.num_record_batches):
                    yield reader.get_batch(index)
            else:
                yield from reader

    def stretches(self, file: Input, num: int) -> list[tuple[TypedFormat, int]]:  # noqa: ARG002 - maps are cheap to read
        """Leave the file whole."""
        return [(self, 0)]


@contextmanager
def _opened(file: Input) -> Iterator[Any]:
    if not file.is_remote and _begins_with_magic(file):
        with pa.memory_map(file.name) as mapped, pa.ipc.open_file(mapped) as reader:
            yield reader
        return
    with file.stream() as content:
        head = content.read(_PADDED_MAGIC_BYTES)
        rest = _Joined(b"" if head.startswith(_MAGIC) else head, content)
        with pa.ipc.open_stream(pa.PythonFile(rest, "r")) as reader:
            yield reader
        while content.read(1 << 20):
            pass  # The footer, which a stream has no use for: the digest covers it.


def _begins_with_magic(file: Input) -> bool:
    with file.unchanged(), file.path.open("rb") as raw:
        head = raw.read(len(_MAGIC))
    if not head:
        raise file.is_empty()
    return head == _MAGIC


class _Joined:
    """Some bytes, and then what a stream still has."""

    closed = False

    def __init__(self, head: bytes, stream: Any) -> None:  # noqa: ANN401 - any object with `read`
        self._head = head
        self._stream = stream

    def read(self, size: int = -1) -> bytes:
        head, self._head = (self._head, b"") if size < 0 else (self._head[:size], self._head[size:])
        rest: bytes = self._stream.read(size - len(head) if size >= 0 else -1) if size < 0 or len(head) < size else b""
        return head + rest

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return False

    def close(self) -> None:
        """The stream is closed by who opened it."""
