"""A dataset: a folder of immutable versions, seen as rows; splits of it are ranges of hash, never lists of rows."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from shoal.base import InputError, UnsupportedError
from shoal.data.cache import ColumnCache
from shoal.data.columns import Decoded, Values
from shoal.data.gather import RowGatherer, Stretch
from shoal.data.ingestion import TARGET_SHARD_BYTES, Progress, Sharding, adopt_segments, append_content
from shoal.data.loader import Format, Loader, LoaderConfig
from shoal.data.profile import Profile
from shoal.data.schema import Schema
from shoal.data.selection import Selection
from shoal.data.shard import FULL_RANGE, ShardFile, check_shard
from shoal.data.sources import open_source
from shoal.data.staging import load_profile

_ROUNDING = Fraction(1, 10**9)
# Two shards' worth: a gather over 8 mapped shards is 2 to 4 times slower than one over a single array.
_COPIED_BYTES = 128 << 20

CacheMode = Literal["auto", "memory", "none"]


@dataclass(frozen=True)
class Dataset(Selection):
    """The rows of one version of a dataset, or of a hash range of it. Immutable; any number of threads may read.

    Rows are numbered 0 to num_rows - 1 in storage order. Shards are memory-mapped, and their digests are checked when
    their rows are first touched.
    """

    @cached_property
    def _stretches(self) -> list[tuple[ShardFile, int, int]]:
        files = [ShardFile(self.shard_path(shard), shard, self.schema) for shard in self.shards]
        return [(file, *file.rows_in(self.hash_range)) for file in files]

    @cached_property
    def num_rows(self) -> int:
        """How many rows there are; for a subset this reads the hashes of the shards at its borders."""
        return sum(stop - start for _, start, stop in self._stretches)

    @cached_property
    def profile(self) -> Profile:
        """Statistics of the rows: stored with a version, computed in one pass for a subset. Do not change it."""
        if self.hash_range == FULL_RANGE:
            return load_profile(self.path, self.manifest.profile)
        profile = Profile()
        for batch in self.batches():
            profile.update(batch)
        return profile

    def append(
        self,
        source: object,
        *,
        num_shards: int | None = None,
        target_shard_bytes: int = TARGET_SHARD_BYTES,
        progress: Progress | None = None,
    ) -> "Dataset":
        """Add rows and return the new version; this one stays as it is.

        The rows are added to the newest version, even when that is later than this one: appends from several
        processes all arrive. Appending the same rows again with the same `num_shards` and `target_shard_bytes` changes
        nothing; cut into other shards, they are added once more.

        Args:
            source: what `shoal.data.ingest` takes, with the same columns.
            num_shards: into how many shards; None: by size.
            target_shard_bytes: size of a shard when `num_shards` is None.
            progress: called with the rows read so far.

        Raises:
            SchemaError: columns differ.
            UnsupportedError: this is a subset.
        """
        self._check_whole("append to")
        sharding = Sharding(num_shards=num_shards, target_shard_bytes=target_shard_bytes)
        made = append_content(self.path, open_source(source), self.manifest, sharding=sharding, progress=progress)
        return Dataset(self.path, made)

    def adopt(self, segments: Sequence[str | os.PathLike[str]]) -> "Dataset":
        """Add sealed log segments as shards without copying them; segments that are in already change nothing.

        Their rows have no hashes, so the new version cannot be split.
        """
        self._check_whole("adopt segments into")
        return Dataset(self.path, adopt_segments(self.path, [Path(segment) for segment in segments]))

    @staticmethod
    def create_from_segments(path: str | os.PathLike[str], segments: Sequence[str | os.PathLike[str]]) -> "Dataset":
        """Make a dataset of finished Arrow files, or add them to the one that is there, without copying them."""
        folder = Path(path).expanduser().absolute()
        return Dataset(folder, adopt_segments(folder, [Path(segment) for segment in segments]))

    def split(self, *fractions: float, key: str | None = None) -> tuple["Dataset", ...]:
        """Return one dataset per fraction, in order; they never overlap, and each row always stays on its side.

        Sides are ranges of the rows' hashes: after appends the old rows are where they were, and the sizes are close
        to the fractions, not equal to them. Rows with the same key (without a key: equal rows) stay together.

        Args:
            fractions: shares of the rows, each above 0, together at most 1; what is left over is in none.
            key: must be the dataset's own key, given only to make sure.

        Raises:
            InputError: fractions out of range.
            UnsupportedError: another key, or rows in order of arrival.
        """
        exact = [Fraction(str(fraction)) for fraction in fractions]
        # Thirds as floats do not add up to 1: the last side takes what rounding left, so that no row is lost in a gap.
        if exact and abs(sum(exact, Fraction(-1))) < _ROUNDING:
            exact[-1] = 1 - sum(exact[:-1], Fraction(0))
        if not exact or min(exact) <= 0 or sum(exact) > 1:
            raise InputError(
                f"cannot split by {fractions}: expected numbers above 0 that add up to at most 1",
                next_step="for example split(0.8, 0.1, 0.1)",
            )
        if key is not None and key != self.key:
            raise UnsupportedError(
                f"cannot split {self.name}@{self.version} by {key!r}: its rows are placed by {self.key or 'content'!r}",
                next_step=f"ingest it with key={key!r}",
            )
        low, high = self.hash_range
        borders = [low + int(sum(exact[:count]) * (high - low)) for count in range(len(exact) + 1)]
        return tuple(Dataset(self.path, self.manifest, (borders[i], borders[i + 1])) for i in range(len(exact)))

    def batches(self, columns: Sequence[str] | None = None, batch_rows: int = 8_192) -> Iterator[pa.RecordBatch]:
        """Yield the rows as `pyarrow.RecordBatch` of at most `batch_rows`, in storage order, without copying."""
        schema = self._selected(columns)
        for file, start, stop in self._stretches:
            for batch in file.batches(start, stop, schema):
                for first in range(0, batch.num_rows, batch_rows):
                    yield batch.slice(first, batch_rows)

    def arrays(self, columns: Sequence[str] | None = None) -> dict[str, Values]:
        """Return all rows as one array [num_rows, ...] per column; they must fit in memory."""
        return self.take(np.arange(self.num_rows), columns)

    def take(self, rows: NDArray[np.int64], columns: Sequence[str] | None = None) -> dict[str, Values]:
        """Return rows by their numbers as arrays [len(rows), ...], with "<name>_mask" for nullable columns."""
        return self._gatherer(self._selected(columns)).take(np.asarray(rows, np.int64))

    def row(self, index: int) -> dict[str, Any]:
        """Return one row as NumPy values per column."""
        return {name: values[0] for name, values in self.take(np.array([index])).items()}

    def verify(self) -> None:
        """Read every shard and check the digests of all its chunks, whatever was checked before.

        Raises:
            CorruptError: some bytes differ; the message names the shard.
            ShardMissingError: a file is gone.
        """
        for shard in self.shards:
            check_shard(self.shard_path(shard), shard)

    def loader(
        self,
        *,
        batch_size: int,
        shuffle: bool = False,
        seed: int = 0,
        rank: int | None = None,
        world_size: int | None = None,
        drop_last: bool = False,
        cache: CacheMode = "auto",
        format: Format | None = None,
        columns: Sequence[str] | None = None,
    ) -> Loader:
        """Return the dataset as batches for training.

        Args:
            batch_size: rows of a global batch, over all ranks together.
            shuffle: visit the rows in another order each epoch, fixed by `seed`.
            seed: any whole number.
            rank: which part of each batch to return; None: the rank in torch's process group, else 0.
            world_size: into how many parts a batch is cut; None: the size of the process group, else 1.
            drop_last: leave out the last batch of an epoch when it is smaller.
            cache: "auto" copies what lies in several shards and has at most 128 MiB into memory, reads larger data
                from mapped files and keeps up to 1 GiB of what had to be decoded; "memory" copies whatever the
                size; "none" keeps nothing.
            format: "torch" or "numpy"; None: torch where it is installed.
            columns: which columns; None: all.
        """
        config = LoaderConfig(
            batch_size=batch_size,
            shuffle=shuffle,
            seed=seed,
            rank=rank,
            world_size=world_size,
            drop_last=drop_last,
            format=format,
        )
        if cache not in ("auto", "memory", "none"):
            raise InputError(f"cache={cache!r} must be 'auto', 'memory' or 'none'", next_step="choose one")
        schema = self._selected(columns)
        gatherer = self._gatherer(schema, ColumnCache(0) if cache == "none" else ColumnCache())
        if cache == "memory" or (cache == "auto" and self._is_small_and_scattered(schema)):
            gatherer = gatherer.in_memory()
        return Loader(gatherer, schema, self.digest, config)

    def _is_small_and_scattered(self, schema: Schema) -> bool:
        row_bytes = sum(column.row_bytes for column in schema.columns)
        is_fixed = all(column.is_fixed for column in schema.columns)
        return is_fixed and len(self._stretches) > 1 and row_bytes * self.num_rows <= _COPIED_BYTES

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """Export the rows to anything that reads Arrow streams: pyarrow, polars, DuckDB, pandas."""
        reader = pa.RecordBatchReader.from_batches(self.schema.arrow(), self.batches())
        return reader.__arrow_c_stream__(requested_schema)

    def __getstate__(self) -> dict[str, object]:
        # Another process maps the files itself: mapped pages and caches do not travel.
        return {"path": self.path, "manifest": self.manifest, "hash_range": self.hash_range}

    def __repr__(self) -> str:
        return f"Dataset({self.address!r})"

    def _selected(self, columns: Sequence[str] | None) -> Schema:
        return self.schema.select(None if columns is None else tuple(columns))

    def _gatherer(self, schema: Schema, cache: ColumnCache | None = None) -> RowGatherer:
        kept = self._cache if cache is None else cache
        return RowGatherer([Stretch(_cached(file, kept), start, stop) for file, start, stop in self._stretches], schema)

    @cached_property
    def _cache(self) -> ColumnCache:
        return ColumnCache()

    def _check_whole(self, action: str) -> None:
        if self.hash_range != FULL_RANGE:
            raise UnsupportedError(
                f"cannot {action} a part of a dataset ({self.address})",
                next_step=f"use the whole: shoal.data.open({str(self.path)!r})",
            )


def _cached(file: ShardFile, cache: ColumnCache) -> Callable[[str], Decoded]:
    return lambda name: cache.get((file.shard.digest, name), lambda: file.column(name))
