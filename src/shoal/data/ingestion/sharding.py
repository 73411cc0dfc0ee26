"""Sorted rows to shards: how many there are, where they are cut, and the files themselves."""

import itertools
import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from shoal.base import InputError
from shoal.data.columns import to_numpy
from shoal.data.schema import HASH_COLUMN, HASH_SPAN, Schema
from shoal.data.storage.flushing import Flushing
from shoal.data.storage.shard import TARGET_SHARD_BYTES, HashRange, Shard, write_shard
from shoal.data.storage.sorting import RUN_BYTES, SortedRuns
from shoal.data.versions.balance import cuts

# Two: one gathers while the other writes and digests; each holds a shard. A third takes memory and saves no time.
_WRITERS = 2


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

    def ranges(self, size_bytes: int) -> list[HashRange]:
        """Return the ranges of hashes that become a shard each, for rows of this size together."""
        num_shards = self.num_shards or math.ceil(size_bytes / self.target_shard_bytes)
        # Ranges of equal width, not of equal rows: where a row goes must not depend on the other rows.
        borders = [index * HASH_SPAN // num_shards for index in range(num_shards + 1)]
        return list(itertools.pairwise(borders))

    def target_for(self, size_bytes: int) -> int:
        """Return how many bytes a shard is to have, for rows of this size together."""
        return self.target_shard_bytes if self.num_shards is None else math.ceil(size_bytes / self.num_shards)


def write_shards(runs: SortedRuns, schema: Schema, work: Path, sharding: Sharding) -> tuple[Shard, ...]:
    """Write all rows as shards into a work folder, each under its own name and on the disk when this returns."""
    target_bytes = sharding.target_for(runs.size_bytes)
    with Flushing() as flushing, ThreadPoolExecutor(_WRITERS, "shoal-shard") as pool:
        made = [
            pool.submit(_write_range, runs, each, schema, work / f"range-{index}", target_bytes, flushing)
            for index, each in enumerate(sharding.ranges(runs.size_bytes))
        ]
        try:
            return tuple(shard for future in made for shard in future.result())
        except BaseException:
            for future in made:
                future.cancel()
            raise


def write_range(runs: SortedRuns, hash_range: HashRange, schema: Schema, path: Path, target_bytes: int) -> list[Shard]:
    """Write the rows of one range as a shard, or as several where a key is too heavy for one, into `path`'s folder."""
    with Flushing() as flushing:
        return _write_range(runs, hash_range, schema, path, target_bytes, flushing)


def _write_range(
    runs: SortedRuns, hash_range: HashRange, schema: Schema, path: Path, target_bytes: int, flushing: Flushing
) -> list[Shard]:
    batch = runs.between(hash_range)
    if batch.num_rows == 0:
        return []
    stored = pa.schema([*schema.arrow(), batch.schema.field(batch.num_columns - 1).with_nullable(False)])
    batch = pa.RecordBatch.from_arrays(batch.columns, schema=stored)
    shards = []
    for start, stop in cuts(to_numpy(batch.column(HASH_COLUMN)), batch.nbytes, target_bytes):
        made = path.with_name(f"{path.name}-{start}")
        shard = write_shard(batch.slice(start, stop - start), made)
        flushing.flush(made)
        made.rename(path.with_name(shard.file_name))
        shards.append(shard)
    return shards
