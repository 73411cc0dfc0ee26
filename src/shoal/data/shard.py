"""One shard: an immutable Arrow IPC file, named by its digest, that holds one range of the hash space.

Rows are sorted by hash, so the rows of any hash range, and with them every split, are one stretch of the file. A
sealed log segment becomes a shard as it is; its rows stand in the order of their arrival.
"""

import os
import threading
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from shoal.base import CHUNK_BYTES, CorruptError, ShardMissingError, digest_chunks, digest_file, report_full_storage
from shoal.data.columns import Decoded, conform, decode
from shoal.data.hashing import HASH_SPAN
from shoal.data.schema import HASH_COLUMN, Schema

HashRange = tuple[int, int]
FULL_RANGE: HashRange = (0, HASH_SPAN)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """What a manifest says of a shard: enough to find it, to check it and to know which hashes it may hold.

    `chunks` are digests of 4 MiB each; `first_hash` and `last_hash` (16 hex digits) are None in order of arrival.
    """

    digest: str
    num_rows: int
    size_bytes: int
    order: Literal["hash", "arrival"]
    chunks: tuple[str, ...]
    first_hash: str | None = None
    last_hash: str | None = None

    @property
    def file_name(self) -> str:
        """The file's name inside the dataset's folder of shards."""
        return f"{self.digest.removeprefix('b3:')}.arrow"

    def overlaps(self, hash_range: HashRange) -> bool:
        """Whether rows of the range may be inside; always, for the full range."""
        if hash_range == FULL_RANGE or self.first_hash is None or self.last_hash is None:
            return True
        return int(self.first_hash, 16) < hash_range[1] and hash_range[0] <= int(self.last_hash, 16)

    def is_within(self, hash_range: HashRange) -> bool:
        """Whether all rows are certainly in the range."""
        if hash_range == FULL_RANGE:
            return True
        if self.first_hash is None or self.last_hash is None:
            return False
        return hash_range[0] <= int(self.first_hash, 16) and int(self.last_hash, 16) < hash_range[1]


def write_shard(batch: pa.RecordBatch, path: Path) -> Shard:
    """Write a batch that is sorted by its hash column as one file, flushed to the disk, and describe it.

    Raises:
        StorageFullError: no room; the caller removes what is there.
    """
    with report_full_storage(path), pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, batch.schema) as writer:
        writer.write_batch(batch)
    hashes = batch.column(HASH_COLUMN)
    return describe_shard(path, batch.num_rows, "hash", first_hash=hashes[0].as_py(), last_hash=hashes[-1].as_py())


def describe_shard(
    path: Path,
    num_rows: int,
    order: Literal["hash", "arrival"],
    *,
    first_hash: int | None = None,
    last_hash: int | None = None,
) -> Shard:
    """Digest a finished file and return what a manifest records of it."""
    return Shard(
        digest=digest_file(path),
        num_rows=num_rows,
        size_bytes=path.stat().st_size,
        order=order,
        chunks=tuple(digest_chunks(path)),
        first_hash=None if first_hash is None else f"{first_hash:016x}",
        last_hash=None if last_hash is None else f"{last_hash:016x}",
    )


class ShardFile:
    """A shard opened for reading, memory-mapped; its digests are checked at the first touch of its rows.

    Any number of threads may read. What has been checked once is trusted in this process until the file changes.
    """

    def __init__(self, path: Path, shard: Shard, schema: Schema) -> None:
        self.path = path
        self.shard = shard
        self._schema = schema

    @cached_property
    def _batches(self) -> list[pa.RecordBatch]:
        check_shard(self.path, self.shard, again=False)
        reader = pa.ipc.open_file(pa.memory_map(str(self.path)))
        return [reader.get_batch(index) for index in range(reader.num_record_batches)]

    def rows_in(self, hash_range: HashRange) -> tuple[int, int]:
        """Return the stretch of rows (start, stop) whose hashes lie in the range; the file is read only at a border."""
        if self.shard.is_within(hash_range):
            return 0, self.shard.num_rows
        if not self.shard.overlaps(hash_range):
            return 0, 0
        # Only a shard at a border gets here, so a split reads at most two shards per append.
        hashes: NDArray[np.uint64] = self._batches[0].column(HASH_COLUMN).to_numpy()
        borders = [np.searchsorted(hashes, np.uint64(at)) if at < HASH_SPAN else len(hashes) for at in hash_range]
        return int(borders[0]), int(borders[1])

    def batches(self, start: int, stop: int, schema: Schema) -> list[pa.RecordBatch]:
        """Return rows start..stop-1 as Arrow record batches with the schema's columns, without copying."""
        found, first = [], 0
        # A shard without nulls says so in its own file; the batches of one dataset must all say the same.
        stored = schema.arrow()
        for batch in self._batches:
            low, high = max(start - first, 0), min(stop - first, batch.num_rows)
            if low < high:
                part = conform(batch.slice(low, high - low), schema)
                found.append(pa.RecordBatch.from_arrays(part.columns, schema=stored))
            first += batch.num_rows
        return found

    def column(self, name: str) -> Decoded:
        """Return all rows of a column; a view of the file where it is fixed in size, without nulls and in one piece."""
        column = self._schema[name]
        parts = [decode(batch.column(name), column) for batch in self._batches]
        if len(parts) == 1:
            return parts[0]
        return join_columns(parts) if parts else Decoded(np.empty((0, *column.shape), column.numpy_dtype), None)


def join_columns(parts: list[Decoded]) -> Decoded:
    """Return the rows of all parts, one after the other, in memory of their own."""
    values = np.concatenate([part.values for part in parts])
    if all(part.valid is None for part in parts):
        return Decoded(values, None)
    valid = [np.ones(len(part.values), np.bool_) if part.valid is None else part.valid for part in parts]
    return Decoded(values, np.concatenate(valid))


_REPAIR = (
    "restore the file from a copy, or ingest the same source again (in a flow: run it with force=True): "
    "it replaces a damaged shard"
)

_checked: set[tuple[object, ...]] = set()
_checked_lock = threading.Lock()


def check_shard(path: Path, shard: Shard, *, again: bool = True) -> None:
    """Return when every chunk of the file has its digest.

    Args:
        path: the shard's file.
        shard: what the manifest says of it.
        again: read it even if this process has checked the same unchanged file before.

    Raises:
        ShardMissingError: there is no such file.
        CorruptError: some bytes differ; the message names the file and the place.
    """
    found = _found(path, shard)
    # The change time is in it because a program can set the modification time back, and not that one.
    key = (str(path), shard.digest, found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)
    with _checked_lock:
        if key in _checked and not again:
            return
    chunks = tuple(digest_chunks(path))
    if chunks != shard.chunks:
        pairs = zip(chunks, shard.chunks, strict=False)
        damaged = next((index for index, (mine, theirs) in enumerate(pairs) if mine != theirs), len(chunks))
        raise CorruptError(
            f"shard {path} is damaged between bytes {damaged * CHUNK_BYTES} and {(damaged + 1) * CHUNK_BYTES}: "
            f"it has {found.st_size} bytes, expected {shard.size_bytes} with other digests",
            next_step=_REPAIR,
        )
    with _checked_lock:
        _checked.add(key)


def check_size(path: Path, shard: Shard) -> None:
    """Return when the file is there with all its bytes, without reading them.

    Raises:
        ShardMissingError: there is no such file.
        CorruptError: it is longer or shorter.
    """
    if (found := _found(path, shard)).st_size != shard.size_bytes:
        raise CorruptError(
            f"shard {path} is damaged: it has {found.st_size} bytes, expected {shard.size_bytes}", next_step=_REPAIR
        )


def _found(path: Path, shard: Shard) -> os.stat_result:
    try:
        return path.stat()
    except FileNotFoundError as error:
        raise ShardMissingError(
            f"cannot read {path}: the dataset names this shard of {shard.num_rows} rows, and it is not there",
            next_step="restore the file from a copy, or ingest the same source again: it brings the shard back",
        ) from error
