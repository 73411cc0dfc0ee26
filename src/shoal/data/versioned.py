"""What a dataset can do to its own history: change columns, cut shards anew, compare, mirror, verify and repair."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

from shoal.base import InputError, UnsupportedError
from shoal.data.schema import Schema
from shoal.data.selection import Selection
from shoal.data.storage.shard import TARGET_SHARD_BYTES, Shard, ShardFile
from shoal.data.versions.manifest import Manifest, load_history, load_manifest

# What makes and compares versions is loaded by the method that does it: whoever opens a dataset to read rows, as every
# worker of a training does, would wait for all of it.
if TYPE_CHECKING:
    from shoal.data.versions.balance import Balance
    from shoal.data.versions.difference import Difference, Side


@dataclass(frozen=True)
class Versioned(Selection):
    """The part of a dataset that makes and compares versions; those that are there never change."""

    def open_shard(self, shard: Shard, schema: Schema | None = None) -> ShardFile:
        """Return a shard's file as rows with these columns (None: the version's), whatever it was written with."""
        # Asked for its path when it is read: a shard that lies elsewhere is fetched by then, and not before.
        return ShardFile(lambda: self.shard_path(shard), shard, schema or self.schema, self.manifest.layout(shard))

    @property
    def balance(self) -> "Balance":
        """Rows and bytes per shard, and the keys that make them uneven; nothing is read but the statistics."""
        from shoal.data.versions.balance import balance_of
        from shoal.data.versions.staging import load_profile

        return balance_of(self.shards, self.key, load_profile(self.folder, self.manifest.profile))

    @property
    def history(self) -> tuple[Manifest, ...]:
        """What all versions up to this one say that are still there, the oldest first."""
        return load_history(self.folder, self.version)

    @property
    def num_refused(self) -> int:
        """How many rows of the sources did not come in because they were bad."""
        return sum(refused.num_rows for refused in self.manifest.refused)

    def evolve(
        self,
        *,
        add: Mapping[str, str] | None = None,
        rename: Mapping[str, str] | None = None,
        widen: Mapping[str, str] | None = None,
        drop: Sequence[str] = (),
        expect: int | None = None,
    ) -> Self:
        """Return a new version with changed columns; no shard is written, old and new ones are read together.

        All names are those from before the call. It builds on the newest version, even when that is later than this
        one. A preparation is not taken along: prepare the new version.

        Args:
            add: new columns and their types, such as {"city": "string", "place": "float32[2]"}; null in all rows.
            rename: {"old": "new"}.
            widen: {"n": "int64"}: to a type that holds every value. int64 becomes float64 when all values are below
                2**53.
            drop: columns to leave out; their bytes stay in the shards until `reshard`.
            expect: the number that the newest version must have.

        Raises:
            SchemaError: a column is unknown, or cannot change that way.
            ConflictError: the newest version is not `expect`.
            UnsupportedError: this is a subset.
        """
        from shoal.data.versions.evolution import Evolution, evolve

        self._check_whole("evolve")
        evolution = Evolution(add=add or {}, rename=rename or {}, widen=widen or {}, drop=drop)
        return replace(self, manifest=evolve(self.path, evolution, expect=expect))

    def reshard(
        self,
        *,
        num_shards: int | None = None,
        target_shard_bytes: int = TARGET_SHARD_BYTES,
        key: str | None = None,
    ) -> Self:
        """Return a new version with the same rows in other shards; memory holds about one new shard.

        Splits by the same key stay exactly as they are. Rows that others append meanwhile stay in their own shards.
        A key whose rows alone exceed twice the size of a shard is cut into several; splits keep it together.

        Args:
            num_shards: into how many ranges of hash; None: by size.
            target_shard_bytes: size of a shard when `num_shards` is None.
            key: place rows by this column from now on; None: as they are placed.

        Raises:
            SchemaError: there is no column `key`.
            SourceError: a row has no value for `key`.
            ConflictError: others changed the same rows meanwhile.
            UnsupportedError: this is a subset.
        """
        from shoal.data.ingestion.resharding import reshard
        from shoal.data.ingestion.sharding import Sharding

        self._check_whole("reshard")
        sharding = Sharding(num_shards=num_shards, target_shard_bytes=target_shard_bytes)
        made = reshard(
            self.path,
            self.manifest,
            [self.open_shard(shard) for shard in self.shards],
            num_shards=sharding.num_shards,
            target_shard_bytes=sharding.target_shard_bytes,
            key=key,
        )
        return replace(self, manifest=made)

    def diff(self, before: "int | Versioned") -> "Difference":
        """Return what turns `before`, a version's number or another opened version, into this one.

        Only shards that one of the two lacks are read. What is equal wherever it lies is no difference: resharding
        alone changes no row.

        Raises:
            NotFoundError: there is no such version.
            UnsupportedError: one of the two is a subset.
        """
        from shoal.data.versions.difference import difference

        other = before if isinstance(before, Versioned) else replace(self, manifest=load_manifest(self.folder, before))
        for side in (self, other):
            _check_whole(side, "compare")
        if other.path != self.path:
            raise InputError(
                f"cannot compare {self.address} with {other.address}: they are versions of different datasets",
                next_step="compare versions of one dataset; across datasets, shoal.watch.compare compares profiles",
            )
        return difference(_side(other), _side(self))

    def mirror(self, location: str | os.PathLike[str] | None = None) -> str:
        """Keep a second copy of all versions at a location, remember it, and return where it is.

        Call it without a location to bring the copy up to date after an append. The copy of a folder opens as a
        dataset itself. `verify` and `repair` know it.

        Raises:
            InputError: no location is given, and none is remembered.
            CorruptError: a shard is damaged; repair it first.
            StorageFullError: no room there.
        """
        from shoal.data.versions.mirror import fill_mirror

        return fill_mirror(self.folder, location)

    def verify(self) -> None:
        """Read every shard, and what else the version names, and check the digests, whatever was checked before.

        Raises:
            CorruptError: some bytes differ; the message names every damaged or missing file.
            ShardMissingError: files are gone, and no other is damaged.
        """
        from shoal.data.versions.mirror import verify

        verify(self.path, replace(self.manifest, shards=self.shards), self.shard_path)

    def repair(self, from_: str | os.PathLike[str] | None = None) -> tuple[str, ...]:
        """Bring damaged and missing files back from the mirror, or from another copy, and return their names.

        Every file is checked before it takes its place, and whole ones are not touched. A dataset in a store is the
        second copy of what was fetched from there; what is damaged in the store itself is replaced from the other copy.

        Raises:
            NotFoundError: something is damaged, and there is no mirror.
            CorruptError: the copy is damaged too; what could be repaired is.
            UnsupportedError: something is damaged on a web server, which is not written to.
        """
        from shoal.data.versions.mirror import repair, repair_stored

        manifest = replace(self.manifest, shards=self.shards)
        if (shadow := self.shadow) is None:
            return repair(self.path, manifest, from_)
        return repair_stored(shadow, manifest, from_)

    def _check_whole(self, action: str) -> None:
        _check_whole(self, action)


def _side(dataset: Versioned) -> "Side":
    from shoal.data.versions.difference import Side
    from shoal.data.versions.staging import load_profile

    profile = load_profile(dataset.folder, dataset.manifest.profile)
    return Side(manifest=dataset.manifest, open_shard=dataset.open_shard, profile=profile)


def _check_whole(dataset: Versioned, action: str) -> None:
    if not dataset.is_whole:
        raise UnsupportedError(
            f"cannot {action} a part of a dataset ({dataset.address})",
            next_step=f"use the whole: shoal.data.open({str(dataset.path)!r})",
        )
