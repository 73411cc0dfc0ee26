"""Sums of a file's chunks: whoever reads a few rows checks just the chunks that they lie in, at the speed of memory."""

import base64
import errno
import threading
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from xxhash import xxh3_64_intdigest

from shoal.base import CorruptError, UnsupportedError
from shoal.data.native import FileKey, map_pages

# Below 64 KiB a sum costs more in its call than in its bytes; 256 sums keep a shard's line in a manifest under 3 KiB.
MIN_CHUNK_BYTES = 64 << 10
MAX_CHUNKS = 256

REPAIR = (
    "dataset.repair() brings it back from the mirror, or from a copy with from_=...; or ingest the same source again "
    "(in a flow: run it with force=True): it replaces a damaged shard"
)


def chunk_bytes_for(size_bytes: int) -> int:
    """Return into chunks of how many bytes a file is cut: the smallest power of two that gives at most 256 of them."""
    chunk_bytes = MIN_CHUNK_BYTES
    while chunk_bytes * MAX_CHUNKS < size_bytes:
        chunk_bytes *= 2
    return chunk_bytes


def chunk_sums(source: Path | NDArray[np.uint8]) -> tuple[str, int]:
    """Return the sums of a file's chunks (or of a buffer's) as text, and how many bytes a chunk has.

    The text is base64 of XXH3 sums of 64 bits each, little-endian; the last chunk may be shorter. They find damage,
    not malice: that is what the file's own digest is for.
    """
    data = map_file(source) if isinstance(source, Path) else source
    chunk_bytes = chunk_bytes_for(len(data))
    sums = [xxh3_64_intdigest(data[start : start + chunk_bytes].data) for start in range(0, len(data), chunk_bytes)]
    return base64.b64encode(np.array(sums, "<u8").tobytes()).decode(), chunk_bytes


def map_file(path: Path) -> NDArray[np.uint8]:
    """Return a file's bytes as a read-only array over its pages; the file itself is closed when this returns.

    Raises:
        FileNotFoundError: there is no such file.
    """
    return map_known(path)[0]


def map_known(path: Path) -> tuple[NDArray[np.uint8], FileKey]:
    """Return a file's bytes as `map_file` does, and what differs once the file has changed.

    Raises:
        FileNotFoundError: there is no such file.
        UnsupportedError: this process may not map any more files.
    """
    try:
        memory, *key = map_pages(path)
    except OSError as error:
        if error.errno != errno.ENOMEM:
            raise
        raise UnsupportedError(
            f"cannot map {path}: the system lets this process map no more files, or gives it no more memory",
            next_step="cut the dataset into fewer shards (dataset.reshard), or raise the limit: "
            "sysctl vm.max_map_count=262144",
        ) from error
    return np.frombuffer(memory, np.uint8), tuple(key)


@dataclass(slots=True)
class ChunkChecks:
    """Which chunks of one unchanged file this process has yet to check; any number of threads may check.

    Two threads may sum the same chunk at once; nobody passes a chunk before somebody found it intact.
    """

    path: Path
    sums: NDArray[np.uint64]
    chunk_bytes: int
    unchecked: NDArray[np.bool_] = field(init=False)

    def __post_init__(self) -> None:
        self.unchecked = np.ones(len(self.sums), np.bool_)

    def check(self, data: NDArray[np.uint8], start: int, stop: int) -> None:
        """Return when bytes start..stop-1 of the file's `data` lie in intact chunks.

        Raises:
            CorruptError: a chunk differs; the message names the file and the chunk's bytes.
        """
        if stop <= start:
            return
        first, last = start // self.chunk_bytes, (stop - 1) // self.chunk_bytes
        if first == last:
            if self.unchecked[first]:
                self.check_chunks(data, (first,))
        elif (near := self.unchecked[first : last + 1]).any():
            self.check_chunks(data, (np.flatnonzero(near) + first).tolist())

    def check_chunks(self, data: NDArray[np.uint8], chunks: Iterable[int]) -> None:
        """Return when the chunks of these numbers are intact; else as `check`."""
        for chunk in chunks:
            start = chunk * self.chunk_bytes
            if xxh3_64_intdigest(data[start : start + self.chunk_bytes].data) != self.sums[chunk]:
                raise CorruptError(
                    f"shard {self.path} is damaged between bytes {start} and "
                    f"{min(start + self.chunk_bytes, len(data))}: that part has another sum than its manifest says",
                    next_step=REPAIR,
                )
            self.unchecked[chunk] = False


# About 40 MiB of shards of 64 MiB; what a reader has open it keeps itself, and what was forgotten is summed once more.
_MAX_KNOWN = 16_384
_known: OrderedDict[tuple[object, ...], ChunkChecks] = OrderedDict()
_known_lock = threading.Lock()


def checks_for(path: Path, key: tuple[Any, ...], sums: str, chunk_bytes: int) -> ChunkChecks:
    """Return what this process knows of a file: the same object for the same path and `key`, else a fresh one.

    `key` must differ when the file has changed since.
    """
    with _known_lock:
        if (checks := _known.get((str(path), *key))) is None:
            decoded = np.frombuffer(base64.b64decode(sums), "<u8").astype(np.uint64)
            checks = _known[(str(path), *key)] = ChunkChecks(path, decoded, chunk_bytes)
        _known.move_to_end((str(path), *key))
        if len(_known) > _MAX_KNOWN:
            _known.popitem(last=False)
        return checks
