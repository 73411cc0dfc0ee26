"""Rows in, a version out: stream, hash, profile, sort, write shards aside, then publish them with one manifest."""

import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import pyarrow as pa

from shoal.base import InputError, SchemaError, SourceError, digest_file, report_full_storage
from shoal.data.columns import conform
from shoal.data.hashing import HASH_SPAN, row_hashes
from shoal.data.manifest import Manifest, SourceFact, content_digest, load_manifest, publish, version_numbers
from shoal.data.profile import Profile
from shoal.data.schema import Column, Schema, schema_from_arrow
from shoal.data.shard import Shard, describe_shard, write_shard
from shoal.data.sorting import RUN_BYTES, SortedRuns
from shoal.data.sources import Source
from shoal.data.staging import load_profile, place_shard, store_profile, work_folder

TARGET_SHARD_BYTES = 64 << 20
# A source may give batches of any size; pieces of this many rows keep hashing and profiling in bounded memory.
_PIECE_ROWS = 8_192

Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sharding:
    """How rows become shards: as many as asked for, else by size; `run_bytes` bounds the memory of sorting."""

    num_shards: int | None = None
    target_shard_bytes: int = TARGET_SHARD_BYTES
    run_bytes: int = RUN_BYTES

    def __post_init__(self) -> None:
        for name in ("num_shards", "target_shard_bytes", "run_bytes"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"{name}={value} must be >= 1", next_step="leave it out to let shoal choose")


@dataclass(frozen=True, slots=True)
class _Content:
    """What came out of a source, still aside: nothing of it is part of the dataset yet."""

    columns: tuple[Column, ...]
    shards: tuple[Shard, ...]
    sources: tuple[SourceFact, ...]
    profile: Profile


def write_content(
    folder: Path, source: Source, *, key: str | None, sharding: Sharding, progress: Progress | None = None
) -> Manifest:
    """Make the dataset's newest content exactly the source's rows; a version that holds them already is returned.

    Raises:
        SourceError: the source is unreadable or empty. In any failure the dataset stays as it was.
    """
    with work_folder(folder) as work:
        content = _read_source(source, work, None, key, sharding, progress)
        for shard in content.shards:
            place_shard(work / shard.file_name, folder, shard)
        digest = content_digest(content.columns, key, content.shards)

        def make(newest: Manifest | None) -> Manifest:
            # Newest first, but any version will do: after an append, the first content is still version 1.
            for version in reversed(version_numbers(folder)):
                if (known := load_manifest(folder, version)).digest == digest:
                    return known
            return _manifest(folder, newest, "ingest", key, content)

        return publish(folder, make)


def append_content(
    folder: Path, source: Source, base: Manifest, *, sharding: Sharding, progress: Progress | None = None
) -> Manifest:
    """Add the source's rows to the newest version, even when it is later than `base`.

    Rows that the same call has appended before change nothing; cut into other shards, the same rows are added again.
    """
    with work_folder(folder) as work:
        content = _read_source(source, work, base.schema, base.key, sharding, progress)
        for shard in content.shards:
            place_shard(work / shard.file_name, folder, shard)
        return publish(folder, lambda newest: _extended(folder, newest, "append", base.key, content))


def adopt_segments(folder: Path, segments: Sequence[Path]) -> Manifest:
    """Add finished Arrow files as shards in order of arrival, linked instead of copied where the disk allows it.

    Files that the newest version holds already are left out, and so is one that is given twice.
    """
    with work_folder(folder) as work:
        contents = [_read_segment(path, work / f"segment-{index}") for index, path in enumerate(segments)]
        for index, content in enumerate(contents):
            place_shard(work / f"segment-{index}", folder, content.shards[0])
        distinct = {content.shards[0].digest: content for content in contents}

        def make(newest: Manifest | None) -> Manifest:
            known = {shard.digest for shard in newest.shards} if newest else set()
            fresh = [content for digest, content in distinct.items() if digest not in known]
            if not fresh:
                if newest is None:
                    raise SourceError("cannot make a dataset of no segments", next_step="give at least one file")
                return newest
            return _extended(folder, newest, "adopt", newest.key if newest else None, _joined(fresh))

        return publish(folder, make)


def _read_source(
    source: Source, work: Path, schema: Schema | None, key: str | None, sharding: Sharding, progress: Progress | None
) -> _Content:
    runs: SortedRuns | None = None
    profile, with_nulls = Profile(), set()
    for batch in source.record_batches():
        found = schema_from_arrow(batch.schema)
        schema = schema or found
        schema.widened(found)
        _check_key(schema, key)
        runs = runs or SortedRuns(schema, work, sharding.run_bytes)
        for start in range(0, batch.num_rows, _PIECE_ROWS):
            piece = conform(batch.slice(start, _PIECE_ROWS), schema)
            with_nulls |= {name for name in schema.names if piece.column(name).null_count}
            runs.add(piece, row_hashes(piece, schema, key))
            profile.update(piece)
            if progress is not None:
                progress(runs.num_rows)
    if schema is None or runs is None or runs.num_rows == 0:
        raise SourceError("the source holds no rows", next_step="check what the source reads")
    columns = tuple(replace(column, nullable=column.name in with_nulls) for column in schema.columns)
    shards = _write_shards(runs, Schema(columns), work, sharding)
    return _Content(columns, shards, source.facts(), profile)


def _check_key(schema: Schema, key: str | None) -> None:
    if key is not None and key not in schema.names:
        raise SchemaError(
            f"cannot place rows by key {key!r}: the columns are {', '.join(schema.names)}",
            next_step="name one of the columns as key, or leave it out to place rows by their content",
        )


def _write_shards(runs: SortedRuns, schema: Schema, work: Path, sharding: Sharding) -> tuple[Shard, ...]:
    runs.finish()
    num_shards = sharding.num_shards or math.ceil(runs.size_bytes / sharding.target_shard_bytes)
    # Ranges of equal width, not of equal rows: where a row goes must not depend on the other rows.
    borders = [index * HASH_SPAN // num_shards for index in range(num_shards + 1)]
    shards = []
    for index in range(num_shards):
        batch = runs.between((borders[index], borders[index + 1]))
        if batch.num_rows == 0:
            continue
        stored = pa.schema([*schema.arrow(), batch.schema.field(batch.num_columns - 1).with_nullable(False)])
        path = work / f"shard-{index}.arrow"
        shard = write_shard(pa.RecordBatch.from_arrays(batch.columns, schema=stored), path)
        path.rename(work / shard.file_name)
        shards.append(shard)
    return tuple(shards)


def _read_segment(path: Path, target: Path) -> _Content:
    profile, with_nulls = Profile(), set()
    try:
        target.hardlink_to(path)
    except FileNotFoundError as error:
        raise SourceError(f"cannot adopt {path}: there is no such file", next_step="check the path") from error
    except OSError:
        # Another disk, or one without links: then the bytes have to be there twice.
        with report_full_storage(target):
            shutil.copyfile(path, target)
    try:
        with pa.memory_map(str(target)) as mapped, pa.ipc.open_file(mapped) as reader:
            schema = schema_from_arrow(reader.schema)
            for index in range(reader.num_record_batches):
                batch = reader.get_batch(index)
                with_nulls |= {name for name in schema.names if batch.column(name).null_count}
                profile.update(batch)
    except pa.ArrowException as error:
        raise SourceError(
            f"cannot adopt {path}: it is no finished Arrow file ({error})", next_step="seal the log first"
        ) from error
    columns = tuple(replace(column, nullable=column.name in with_nulls) for column in schema.columns)
    shard = describe_shard(target, profile.num_rows, "arrival")
    fact = SourceFact(path=str(path.absolute()), digest=digest_file(target), num_rows=profile.num_rows)
    return _Content(columns, (shard,), (fact,), profile)


def _joined(contents: Sequence[_Content]) -> _Content:
    joined = contents[0]
    for content in contents[1:]:
        joined = _Content(
            Schema(joined.columns).widened(Schema(content.columns)).columns,
            joined.shards + content.shards,
            joined.sources + content.sources,
            joined.profile.merge(content.profile),
        )
    return joined


def _extended(
    folder: Path, newest: Manifest | None, change: Literal["append", "adopt"], key: str | None, content: _Content
) -> Manifest:
    if newest is None:
        return _manifest(folder, None, change, key, content)
    known = {shard.digest for shard in newest.shards}
    # All or nothing: two sources may share one shard by chance, and then the other's rows must still come in.
    if all(shard.digest in known for shard in content.shards):
        return newest
    before = _Content(newest.columns, newest.shards, newest.sources, load_profile(folder, newest.profile))
    return _manifest(folder, newest, change, key, _joined([before, content]))


def _manifest(
    folder: Path, newest: Manifest | None, change: Literal["ingest", "append", "adopt"], key: str | None, all_: _Content
) -> Manifest:
    return Manifest(
        version=newest.version + 1 if newest else 1,
        parent=newest.digest if newest else None,
        change=change,
        created=datetime.now(UTC),
        columns=all_.columns,
        key=key,
        shards=all_.shards,
        sources=all_.sources,
        profile=store_profile(folder, all_.profile),
        digest=content_digest(all_.columns, key, all_.shards),
    )
