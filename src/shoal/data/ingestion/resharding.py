"""The same rows in other shards: every old file is read by ranges of hash, so memory holds about one new shard."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from shoal.base import ConflictError, SchemaError, report_full_storage
from shoal.data.columns import reordered
from shoal.data.hashing import row_hashes
from shoal.data.layout import layout_of
from shoal.data.schema import HASH_COLUMN, HASH_SPAN, Schema
from shoal.data.storage.shard import HashRange, Shard, ShardFile, write_shard
from shoal.data.versions.balance import cuts
from shoal.data.versions.manifest import Manifest, content_digest, publish
from shoal.data.versions.staging import place_shard, work_folder

# Rows that must be placed anew are sorted in files of this size: several of them fit in memory.
_RUN_BYTES = 64 << 20
_HASH_FIELD = pa.field(HASH_COLUMN, pa.uint64(), nullable=False)


@dataclass(frozen=True, slots=True)
class _Part:
    # Rows in the order of their hashes; `batch` has the schema's columns.
    hashes: NDArray[np.uint64]
    batch: pa.RecordBatch


@dataclass(frozen=True, slots=True)
class _SortedRows:
    # Rows of one file in the order of their hashes. Only hashes are at hand: what is read of a column that was
    # widened or added since is made in memory, and must not be made for all files at once.
    hashes: NDArray[np.uint64]
    read: Callable[[int, int], list[pa.RecordBatch]]

    def between(self, hash_range: HashRange) -> list[_Part]:
        low = int(np.searchsorted(self.hashes, np.uint64(hash_range[0])))
        high = len(self.hashes)
        if hash_range[1] < HASH_SPAN:
            high = int(np.searchsorted(self.hashes, np.uint64(hash_range[1])))
        parts = []
        for batch in self.read(low, high) if low < high else ():
            parts.append(_Part(self.hashes[low : low + batch.num_rows], batch))
            low += batch.num_rows
        return parts


def reshard(
    folder: Path,
    base: Manifest,
    files: Sequence[ShardFile],
    *,
    num_shards: int | None = None,
    target_shard_bytes: int,
    key: str | None = None,
) -> Manifest:
    """Publish a version with the rows of `base` in other shards; rows that were appended meanwhile stay as they are.

    Args:
        folder: the dataset's.
        base: the version whose rows are cut anew.
        files: its shards, opened with its columns.
        num_shards: how many ranges of hash; None: by size.
        target_shard_bytes: size of a shard when `num_shards` is None.
        key: place the rows by this column from now on; None: as they are placed, so that every split stays the same.

    Raises:
        SchemaError: there is no column `key`.
        SourceError: a row has no value for `key`.
        ConflictError: others changed the same rows, or appended rows that are placed by another key.
        StorageFullError: no room. In any failure the dataset stays as it was.
    """
    if key is not None and key not in base.schema.names:
        raise SchemaError(
            f"cannot place rows by key {key!r}: the columns are {', '.join(base.schema.names)}",
            next_step="name one of the columns as key",
        )
    size_bytes = sum(shard.size_bytes for shard in base.shards)
    count = num_shards or max(math.ceil(size_bytes / target_shard_bytes), 1)
    target = target_shard_bytes if num_shards is None else math.ceil(size_bytes / num_shards)
    with work_folder(folder) as work:
        is_placed_anew = key not in (None, base.key) or any(shard.order == "arrival" for shard in base.shards)
        placed_by = key or base.key
        rows = _placed_anew(files, base.schema, placed_by, work) if is_placed_anew else _as_placed(files, base.schema)
        shards: list[Shard] = []
        for index in range(count):
            # Ranges of equal width, as ingest makes them: where a row goes must not depend on the other rows.
            hash_range = (index * HASH_SPAN // count, (index + 1) * HASH_SPAN // count)
            for batch in _pieces(rows, hash_range, base.schema, target):
                path = work / f"shard-{len(shards)}.arrow"
                shards.append(write_shard(batch, path))
                place_shard(path.rename(work / shards[-1].file_name), folder, shards[-1])
        return publish(folder, lambda newest: _resharded(newest, base, tuple(shards), placed_by))


def _resharded(newest: Manifest | None, base: Manifest, shards: tuple[Shard, ...], key: str | None) -> Manifest:
    before = {shard.digest for shard in base.shards}
    known = {shard.digest for shard in newest.shards} if newest else set()
    if newest is None or not before <= known:
        raise ConflictError(
            f"cannot reshard version {base.version}: a later version no longer has {len(before - known)} of its shards",
            next_step="open the newest version and reshard that",
        )
    since = tuple(shard for shard in newest.shards if shard.digest not in before)
    # A renamed key is still the key: by its id, as the newest version calls it.
    name = next((c.name for c in newest.columns if key is not None and c.id == base.schema[key].id), None)
    if (since and name != newest.key) or (name is None and key is not None):
        raise ConflictError(
            f"cannot reshard version {base.version} by {key!r}: version {newest.version} has {len(since)} new shards "
            f"with rows placed by {newest.key or 'content'!r}",
            next_step="open the newest version and reshard that",
        )
    layout = layout_of(base.columns)
    layouts = newest.layouts if layout in newest.layouts else (*newest.layouts, layout)
    made = tuple(replace(shard, layout=layouts.index(layout)) for shard in shards) + since
    if content_digest(newest.columns, name, made, layouts, newest.preparation) == newest.digest:
        return newest
    return newest.followed_by(
        "reshard",
        layouts=layouts,
        key=name,
        shards=made,
    )


def _as_placed(files: Sequence[ShardFile], schema: Schema) -> list[_SortedRows]:
    found = []
    for file in files:
        stored = [opened.batch.column(HASH_COLUMN) for opened in file.open_batches]
        for opened, hashes in zip(file.open_batches, stored, strict=True):
            opened.check(hashes)
        hashes = stored[0].to_numpy() if len(stored) == 1 else np.concatenate([each.to_numpy() for each in stored])
        found.append(_SortedRows(hashes, partial(file.batches, schema=schema)))
    return found


def _placed_anew(files: Sequence[ShardFile], schema: Schema, key: str | None, work: Path) -> list[_SortedRows]:
    runs: list[_SortedRows] = []
    for file in files:
        rows_per_run = max(_RUN_BYTES * file.shard.num_rows // max(file.shard.size_bytes, 1), 1)
        for start in range(0, file.shard.num_rows, rows_per_run):
            for batch in file.batches(start, min(start + rows_per_run, file.shard.num_rows), schema):
                hashes = row_hashes(batch, schema, key)
                order = np.argsort(hashes, kind="stable")
                path = work / f"run-{len(runs)}.arrow"
                _write(_with_hashes(_reordered(batch, schema, order), hashes[order], schema), path)
                stored = pa.ipc.open_file(pa.memory_map(str(path))).get_batch(0)
                read = partial(_slices, stored.select(list(schema.names)))
                runs.append(_SortedRows(stored.column(HASH_COLUMN).to_numpy(), read))
    return runs


def _slices(batch: pa.RecordBatch, start: int, stop: int) -> list[pa.RecordBatch]:
    return [batch.slice(start, stop - start)]


def _pieces(
    rows: Sequence[_SortedRows], hash_range: HashRange, schema: Schema, target_bytes: int
) -> Iterator[pa.RecordBatch]:
    parts = [part for each in rows for part in each.between(hash_range)]
    if not parts:
        return
    hashes = np.concatenate([part.hashes for part in parts])
    # Stable: rows of one hash keep the order in which they came, whatever the shards were.
    order = np.argsort(hashes, kind="stable")
    hashes = hashes[order]
    size_bytes = sum(part.batch.nbytes + part.hashes.nbytes for part in parts)
    for start, stop in cuts(hashes, size_bytes, target_bytes):
        yield _with_hashes(_gathered(parts, order[start:stop], schema), hashes[start:stop], schema)


def _gathered(parts: Sequence[_Part], rows: NDArray[np.int64], schema: Schema) -> pa.RecordBatch:
    # Rows of one part after the other, then put in order: only the piece itself is ever copied.
    firsts = np.cumsum([0, *(len(part.hashes) for part in parts)])
    homes = np.searchsorted(firsts, rows, side="right") - 1
    found, places = [], []
    for index, part in enumerate(parts):
        mine = np.flatnonzero(homes == index)
        if len(mine):
            found.append(_reordered(part.batch, schema, rows[mine] - firsts[index]))
            places.append(mine)
    joined = found[0] if len(found) == 1 else pa.Table.from_batches(found).combine_chunks().to_batches()[0]
    return _reordered(joined, schema, np.argsort(np.concatenate(places)))


def _reordered(batch: pa.RecordBatch, schema: Schema, order: NDArray[np.int64]) -> pa.RecordBatch:
    arrays = [reordered(batch.column(column.name), column, order) for column in schema.columns]
    return pa.RecordBatch.from_arrays(arrays, schema=schema.arrow())


def _with_hashes(batch: pa.RecordBatch, hashes: NDArray[np.uint64], schema: Schema) -> pa.RecordBatch:
    stored = pa.schema([*schema.arrow(), _HASH_FIELD])
    return pa.RecordBatch.from_arrays([*batch.columns, pa.array(hashes)], schema=stored)


def _write(batch: pa.RecordBatch, path: Path) -> None:
    with report_full_storage(path), pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, batch.schema) as writer:
        writer.write_batch(batch)
