"""One shard: an immutable Arrow IPC file, named by its digest, that holds one range of the hash space.

Rows are sorted by hash, so the rows of any hash range, and with them every split, are one stretch of the file. A
sealed log segment becomes a shard as it is; its rows stand in the order of their arrival.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from shoal.base import CorruptError, ShardMissingError, digest_bytes, report_full_storage
from shoal.data.layout import Layout
from shoal.data.schema import HASH_COLUMN, HASH_SPAN, Schema
from shoal.data.storage.arrow_file import Body, check_metadata, find_body, stored_fields
from shoal.data.storage.chunks import REPAIR, ChunkChecks, checks_for, chunk_sums, map_file, map_known

# Arrow is loaded by the functions that make or hand out its arrays: gathering rows by their places does without.
if TYPE_CHECKING:
    import pyarrow as pa

    from shoal.data.columns import Decoded

HashRange = tuple[int, int]
FULL_RANGE: HashRange = (0, HASH_SPAN)
TARGET_SHARD_BYTES = 64 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """What a manifest says of a shard: enough to find it, to check any part of it and to know which hashes it may hold.

    `sums` are the sums of chunks of `chunk_bytes` each (`chunks.chunk_sums`); `first_hash` and `last_hash` (16 hex
    digits) are None in order of arrival. `layout` is which of the manifest's layouts says under which names the file
    holds the columns.
    """

    digest: str
    num_rows: int
    size_bytes: int
    order: Literal["hash", "arrival"]
    sums: str
    chunk_bytes: int
    first_hash: str | None = None
    last_hash: str | None = None
    layout: int = 0

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


def write_shard(batch: "pa.RecordBatch", path: Path) -> Shard:
    """Write a batch that is sorted by its hash column as one file, flushed to the disk, and describe it.

    Raises:
        StorageFullError: no room; the caller removes what is there.
    """
    import pyarrow as pa

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
    data = map_file(path)
    sums, chunk_bytes = chunk_sums(data)
    return Shard(
        digest=digest_bytes(data.data),
        num_rows=num_rows,
        size_bytes=len(data),
        order=order,
        sums=sums,
        chunk_bytes=chunk_bytes,
        first_hash=None if first_hash is None else f"{first_hash:016x}",
        last_hash=None if last_hash is None else f"{last_hash:016x}",
    )


@dataclass(frozen=True)
class OpenBatch:
    """One record batch of an open file: `data` are the file's bytes, of which `checks` says what is still unchecked.

    Both are None for a batch that lies in memory. `source` is the batch, or how Arrow comes by it; `body` says where
    the file keeps its arrays, if that is known without Arrow. Whoever reads values checks their bytes first.
    """

    source: "pa.RecordBatch | Callable[[], pa.RecordBatch]"
    layout: Layout | None = None
    data: NDArray[np.uint8] | None = None
    checks: ChunkChecks | None = None
    body: Body | None = None

    @cached_property
    def batch(self) -> "pa.RecordBatch":
        """The rows for Arrow."""
        return self.source() if callable(self.source) else self.source

    @property
    def num_rows(self) -> int:
        """How many rows it has."""
        return self.batch.num_rows if self.body is None else self.body.num_rows

    def hashes(self) -> NDArray[np.uint64]:
        """Return the rows' hashes, checked; only shards in order of hash have them."""
        if self.body is not None and self.data is not None:
            field = stored_fields(self.data, self.body).get(HASH_COLUMN)
            if field is not None and (field.dtype, field.sizes, field.is_list) == ("uint64", (), False):
                at, size = self.body.buffers[field.first + 1]
                if size >= 8 * self.body.num_rows:
                    stop = at + 8 * self.body.num_rows
                    if self.checks is not None:
                        self.checks.check(self.data, at, at + size)
                    return self.data[at:stop].view(np.uint64)
        array = self.batch.column(HASH_COLUMN)
        self.check(array)
        found: NDArray[np.uint64] = array.to_numpy()
        return found

    def check(self, array: "pa.Array") -> None:
        """Return when all bytes of a column are intact; CorruptError as `ChunkChecks.check`."""
        for buffer in array.buffers():
            self.check_buffer(buffer)

    def check_buffer(self, buffer: "pa.Buffer | None") -> None:
        """Return when a buffer's bytes are intact, as far as they lie in the file."""
        if self.data is None or self.checks is None or buffer is None:
            return
        start = buffer.address - address_of(self.data)
        if 0 <= start < len(self.data):
            self.checks.check(self.data, start, start + buffer.size)


class ShardFile:
    """A shard for reading: opened, mapped and, where it lies elsewhere, fetched when it is first asked for.

    What is read is checked chunk by chunk at the first touch; what was checked once is trusted in this process until
    the file changes. Any number of threads may read.
    """

    def __init__(
        self, path: Path | Callable[[], Path], shard: Shard, schema: Schema, layout: Layout | None = None
    ) -> None:
        """Name the file; nothing is read.

        Args:
            path: where it lies, or what to call to have it on this machine.
            shard: what the manifest says of it.
            schema: the columns that readers want.
            layout: under which names the file holds them; None: under their own.
        """
        self._path = path
        self.shard = shard
        self._schema = schema
        self._layout = layout

    @cached_property
    def path(self) -> Path:
        """Where the file lies; a file that lies elsewhere is fetched."""
        return self._path() if callable(self._path) else self._path

    @cached_property
    def open_batches(self) -> list[OpenBatch]:
        """The file's record batches, mapped; only what says where the rows are has been read and checked.

        Raises:
            ShardMissingError: there is no such file.
            CorruptError: it is longer or shorter, or the bytes around its rows are damaged.
        """
        data, checks = _mapped(self.path, self.shard)
        if len(checks.sums) == 1:
            checks.check(data, 0, len(data))
        else:
            check_metadata(data, lambda start, stop: checks.check(data, start, stop))
        body = find_body(data)
        if body is not None and body.num_rows == self.shard.num_rows:
            return [OpenBatch(lambda: _reader(data).get_batch(0), self._layout, data, checks, body)]
        reader = _reader(data)
        batches = [reader.get_batch(index) for index in range(reader.num_record_batches)]
        found = sum(batch.num_rows for batch in batches)
        if found != self.shard.num_rows or (self.shard.order == "hash" and len(batches) != 1):
            # Believed, rows behind the file's end would be read.
            raise CorruptError(
                f"shard {self.path} has {found} rows in {len(batches)} batches, its manifest says "
                f"{self.shard.num_rows}{' in one' if self.shard.order == 'hash' else ''}",
                next_step=REPAIR,
            )
        return [OpenBatch(batch, self._layout, data, checks) for batch in batches]

    def rows_in(self, hash_range: HashRange) -> tuple[int, int]:
        """Return the stretch of rows (start, stop) whose hashes lie in the range; the file is read only at a border."""
        if self.shard.is_within(hash_range):
            return 0, self.shard.num_rows
        if not self.shard.overlaps(hash_range):
            return 0, 0
        # Only a shard at a border gets here, so a split reads at most two shards per append.
        hashes = self.open_batches[0].hashes()
        borders = [np.searchsorted(hashes, np.uint64(at)) if at < HASH_SPAN else len(hashes) for at in hash_range]
        return int(borders[0]), int(borders[1])

    def batches(self, start: int, stop: int, schema: Schema) -> "list[pa.RecordBatch]":
        """Return rows start..stop-1 as Arrow record batches with the schema's columns, without copying."""
        import pyarrow as pa

        from shoal.data.columns import conform

        found, first = [], 0
        # A shard without nulls says so in its own file; the batches of one dataset must all say the same.
        stored = schema.arrow()
        for opened in self.open_batches:
            low, high = max(start - first, 0), min(stop - first, opened.num_rows)
            if low < high:
                for column in schema.columns:
                    name = self._layout.name_of(column) if self._layout else column.name
                    if name is not None:
                        opened.check(opened.batch.column(name))
                part = conform(opened.batch.slice(low, high - low), schema, self._layout)
                found.append(pa.RecordBatch.from_arrays(part.columns, schema=stored))
            first += opened.num_rows
        return found

    def column(self, name: str) -> "Decoded":
        """Return all rows of a column; a view of the file where it is fixed in size, without nulls and in one piece."""
        from shoal.data.columns import decode

        schema = self._schema.select([name])
        parts = [decode(batch.column(name), schema[name]) for batch in self.batches(0, self.shard.num_rows, schema)]
        if len(parts) == 1:
            return parts[0]
        return join_columns(parts)


def join_columns(parts: "list[Decoded]") -> "Decoded":
    """Return the rows of all parts, one after the other, in memory of their own."""
    from shoal.data.columns import Decoded

    values = np.concatenate([part.values for part in parts])
    if all(part.valid is None for part in parts):
        return Decoded(values, None)
    valid = [np.ones(len(part.values), np.bool_) if part.valid is None else part.valid for part in parts]
    return Decoded(values, np.concatenate(valid))


def _reader(data: NDArray[np.uint8]) -> "pa.RecordBatchFileReader":
    import pyarrow as pa

    return pa.ipc.open_file(pa.BufferReader(pa.py_buffer(data)))


def address_of(values: NDArray[Any]) -> int:
    """Return where an array's first element lies in memory."""
    address: int = values.__array_interface__["data"][0]
    return address


def check_shard(path: Path, shard: Shard, *, again: bool = True) -> None:
    """Return when the whole file is what was described.

    Args:
        path: the shard's file.
        shard: what the manifest says of it.
        again: read every byte and compare the file's own digest, whatever was checked before; else only the sums of
            the chunks that this process has not read yet.

    Raises:
        ShardMissingError: there is no such file.
        CorruptError: some bytes differ; the message names the file and the place.
    """
    data, checks = _mapped(path, shard)
    if not again:
        checks.check(data, 0, len(data))
        return
    if digest_bytes(data.data) != shard.digest:
        checks.unchecked[:] = True
        checks.check(data, 0, len(data))
        raise CorruptError(f"shard {path} is damaged: it has another digest than {shard.digest}", next_step=REPAIR)
    checks.unchecked[:] = False


def _mapped(path: Path, shard: Shard) -> tuple[NDArray[np.uint8], ChunkChecks]:
    try:
        data, key = map_known(path)
    except FileNotFoundError as error:
        raise _missing(path, shard) from error
    # Of what was mapped, and not of the name: pages behind a file's end end the process when they are read.
    _check_length(path, shard, len(data))
    return data, checks_for(path, (shard.digest, *key), shard.sums, shard.chunk_bytes)


def trust_shard(path: Path, shard: Shard, checked: os.stat_result) -> None:
    """Remember for this process that a file's chunks are intact, if it is the file that was checked, perhaps renamed.

    Args:
        path: where it lies now.
        shard: what the manifest says of it.
        checked: what the system said of the file when all its bytes had just been found intact.
    """
    try:
        found = path.stat()
    except FileNotFoundError:
        return
    # Not the time of the last change: the new name counts as one.
    if all(getattr(found, name) == getattr(checked, name) for name in ("st_dev", "st_ino", "st_size", "st_mtime_ns")):
        key = (shard.digest, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)
        checks_for(path, key, shard.sums, shard.chunk_bytes).unchecked[:] = False


def check_size(path: Path, shard: Shard) -> os.stat_result:
    """Return when the file is there with all its bytes, without reading them.

    Raises:
        ShardMissingError: there is no such file.
        CorruptError: it is longer or shorter.
    """
    try:
        found = path.stat()
    except FileNotFoundError as error:
        raise _missing(path, shard) from error
    _check_length(path, shard, found.st_size)
    return found


def _missing(path: Path, shard: Shard) -> ShardMissingError:
    return ShardMissingError(
        f"cannot read {path}: the dataset names this shard of {shard.num_rows} rows, and it is not there",
        next_step="dataset.repair() brings it back from the mirror, or from a copy with from_=...; or ingest the "
        "same source again: it brings the shard back",
    )


def _check_length(path: Path, shard: Shard, size_bytes: int) -> None:
    if size_bytes != shard.size_bytes:
        raise CorruptError(
            f"shard {path} is damaged: it has {size_bytes} bytes, expected {shard.size_bytes}", next_step=REPAIR
        )
