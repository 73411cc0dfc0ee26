"""Arrays that follow from a dataset and can be made again: kept in a file beside it, mapped, checked when opened.

A file holds arrays one after the other, then their names and places as JSON, then a tail with the digest of all that
stands before it. Deleting it costs the time to make it again and nothing else.
"""

import errno
import mmap
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from shoal.base import CorruptError, Digester, NotFoundError, StorageFullError, atomic_file, digest_bytes, find_home
from shoal.base.json import decode, encode

FOLDER = "subsets"
_MAGIC = b"shoalar1"
_ALIGNMENT = 64
_DIGEST_CHARS = 67
_TAIL_BYTES = len(_MAGIC) + 8 + _DIGEST_CHARS

Arrays = dict[str, NDArray[Any]]

# What was forgotten is digested once more.
_MAX_CHECKED = 65_536
_checked: OrderedDict[tuple[str, int, int, int], None] = OrderedDict()
_checked_lock = threading.Lock()


class ArrayWriter:
    """Writes named arrays into a file, in pieces of any size; one array at a time, from one thread."""

    def __init__(self, sink: IO[bytes]) -> None:
        self._sink = sink
        self._digester = Digester()
        self._size = 0
        self._arrays: dict[str, tuple[str, int, int]] = {}

    def add(self, name: str, piece: NDArray[Any]) -> None:
        """Append values to the array of this name, which begins with its first piece."""
        if name not in self._arrays:
            self._write(bytes(-self._size % _ALIGNMENT))
            self._arrays[name] = (piece.dtype.str, self._size, 0)
        dtype, start, count = self._arrays[name]
        self._write(np.ascontiguousarray(piece).reshape(-1).view(np.uint8).data)
        self._arrays[name] = (dtype, start, count + piece.size)

    def finish(self) -> None:
        """Write what a reader needs to find the arrays."""
        names = encode(self._arrays)
        self._write(names)
        digest = self._digester.digest().encode()
        self._sink.write(digest + len(names).to_bytes(8, "little") + _MAGIC)

    def _write(self, data: bytes | memoryview) -> None:
        self._sink.write(data)
        self._digester.update(data)
        self._size += len(data)


def derived_arrays(dataset_folder: Path, name: str, build: Callable[[ArrayWriter], None]) -> Arrays:
    """Return the arrays kept under `name`, mapped read-only, after building them where they are missing or damaged.

    They are kept in the dataset's own folder or, where that cannot be written, in `.shoal/cache`. Several processes
    may build the same at once: the file appears whole, and each of them would write the same.

    Raises:
        StorageFullError: no room.
    """
    for path in _places(dataset_folder, name, create=False):
        with suppress(FileNotFoundError, NotADirectoryError, CorruptError):
            return read_arrays(path)
    for path in _places(dataset_folder, name, create=True):
        with _skip_unwritable() as tried, atomic_file(path) as sink:
            tried.append(path)
            writer = ArrayWriter(sink)
            build(writer)
            writer.finish()
        if tried:
            return read_arrays(path)
    raise StorageFullError(
        f"cannot keep a subset of {dataset_folder}: neither its folder nor .shoal can be written",
        next_step="run in a folder that can be written, or set SHOAL_HOME to one",
    )


def _places(dataset_folder: Path, name: str, *, create: bool) -> Iterator[Path]:
    yield dataset_folder / FOLDER / name
    with suppress(NotFoundError):
        yield find_home(create=create) / "cache" / FOLDER / name


@contextmanager
def _skip_unwritable() -> Iterator[list[Path]]:
    """Swallow the refusal of a folder that may not be written; once the list is filled, errors are the block's own."""
    tried: list[Path] = []
    try:
        yield tried
    except OSError as error:
        refused = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST)
        if tried or error.errno not in refused:
            raise


def read_arrays(path: Path) -> Arrays:
    """Return the arrays of a file, mapped; their digest is checked once per process.

    Raises:
        FileNotFoundError: there is no such file.
        CorruptError: it was cut or changed.
    """
    with path.open("rb") as source:
        found = os.fstat(source.fileno())
        if found.st_size < _TAIL_BYTES:
            raise _damaged(path)
        data = memoryview(mmap.mmap(source.fileno(), 0, access=mmap.ACCESS_READ))
    tail = data[-_TAIL_BYTES:]
    key = (str(path), found.st_size, found.st_mtime_ns, found.st_ino)
    if tail[-len(_MAGIC) :] != _MAGIC or (
        key not in _checked and digest_bytes(data[:-_TAIL_BYTES]).encode() != bytes(tail[:_DIGEST_CHARS])
    ):
        raise _damaged(path)
    with _checked_lock:
        _checked[key] = None
        _checked.move_to_end(key)
        if len(_checked) > _MAX_CHECKED:
            _checked.popitem(last=False)
    names_bytes = int.from_bytes(tail[_DIGEST_CHARS : _DIGEST_CHARS + 8], "little")
    places = decode(bytes(data[-_TAIL_BYTES - names_bytes : -_TAIL_BYTES]), dict[str, tuple[str, int, int]])
    return {name: np.frombuffer(data, dtype, count, start) for name, (dtype, start, count) in places.items()}


def _damaged(path: Path) -> CorruptError:
    return CorruptError(f"{path} was cut or changed", next_step="delete it: it is made again when it is needed")
