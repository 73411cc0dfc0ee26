"""Which rows are meant: one version of a dataset, a range of hashes in it, or what recipes leave of that."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from shoal.base import UnsupportedError, digest_json
from shoal.data.remote.shadows import restore_shadow, shadow_of
from shoal.data.sampling.recipes import Recipe, address_text
from shoal.data.schema import Schema
from shoal.data.sources.facts import SourceFact
from shoal.data.storage.shard import FULL_RANGE, HashRange, Shard
from shoal.data.versions.manifest import Manifest

if TYPE_CHECKING:
    from shoal.data.prepare.fitted import FittedPreparation
    from shoal.data.remote.shadow import Shadow


@dataclass(frozen=True)
class Selection:
    """A version of a dataset, a range of hashes and recipes; immutable, and nothing but the manifest has been read.

    The recipes are applied in order to the rows of the range. It is a handle: `address` opens it again in any process
    that sees the folder, and `digest` depends on the content and the recipes alone.
    """

    path: Path
    manifest: Manifest
    hash_range: HashRange = FULL_RANGE
    recipes: tuple[Recipe, ...] = ()

    kind = "dataset"

    def __post_init__(self) -> None:
        arrival = [shard for shard in self.manifest.shards if shard.order == "arrival"]
        if self.hash_range != FULL_RANGE and arrival:
            raise UnsupportedError(
                f"cannot split {self.name}@{self.version}: {len(arrival)} of its {len(self.manifest.shards)} shards "
                "are log segments, whose rows stand in order of arrival and bear no hash",
                next_step=f"make a dataset with hashes of it: shoal.data.ingest(dataset, '{self.path}-hashed')",
            )

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.path.name

    @property
    def version(self) -> int:
        """The number of this version, from 1."""
        return self.manifest.version

    @property
    def address(self) -> str:
        """Path and version, as in "/data/clicks@3", and for a subset its range and its recipes, each behind "#"."""
        return address_text(self.origin or self.path, self.version, self.hash_range, self.recipes)

    @property
    def digest(self) -> str:
        """The digest of columns, shards, range and recipes: equal wherever and whenever the same rows were stored."""
        return self.digest_after(len(self.recipes))

    def digest_after(self, num_recipes: int) -> str:
        """Return the digest of what the first `num_recipes` recipes leave; 0 means the range as it is."""
        digest = self.manifest.digest
        if self.hash_range != FULL_RANGE:
            digest = digest_json({"dataset": digest, "range": [f"{at:x}" for at in self.hash_range]})
        for recipe in self.recipes[:num_recipes]:
            digest = digest_json({"parent": digest, "recipe": str(recipe)})
        return digest

    @property
    def is_whole(self) -> bool:
        """Whether these are all rows of the version."""
        return self.hash_range == FULL_RANGE and not self.recipes

    @property
    def schema(self) -> Schema:
        """The columns."""
        return self.manifest.schema

    @property
    def key(self) -> str | None:
        """The column whose value decides a row's hash; None when the whole row does."""
        return self.manifest.key

    @cached_property
    def preparation(self) -> "FittedPreparation | None":
        """What is done to every batch of this version, as `Dataset.prepare` has learned it; None for nothing."""
        digest = self.manifest.preparation
        if digest is None:
            return None
        from shoal.data.versions.preparations import load_preparation  # all operators, for those who prepare

        return load_preparation(self.folder, digest)

    @property
    def shards(self) -> tuple[Shard, ...]:
        """The shards that may hold rows of this dataset, in storage order."""
        if self.hash_range == FULL_RANGE:
            return self.manifest.shards
        return tuple(shard for shard in self.manifest.shards if shard.overlaps(self.hash_range))

    @property
    def sources(self) -> tuple[SourceFact, ...]:
        """Where the version's rows came from, those of earlier appends first."""
        return self.manifest.sources

    @cached_property
    def origin(self) -> str | None:
        """The URL of a dataset that lies in a store; None for one in a folder."""
        shadow = shadow_of(self.path)
        return None if shadow is None else str(shadow.location)

    @property
    def folder(self) -> Path:
        """The path, and where that stands for a dataset in a store, it brings from there what is asked for."""
        return self.path if (shadow := self.shadow) is None else shadow.folder

    @property
    def shadow(self) -> "Shadow | None":
        """What fetches the shards of a dataset that lies in a store; None for one in a folder."""
        return None if self.origin is None else restore_shadow(self.path, self.origin)

    def shard_path(self, shard: Shard) -> Path:
        """Return where the shard's file lies on this machine; one that lies in a store is fetched.

        Raises:
            RemoteError: the store does not give it.
        """
        shadow = self.shadow
        return self._shards_folder / shard.file_name if shadow is None else shadow.shard_file(shard)

    @cached_property
    def _shards_folder(self) -> Path:
        return self.path / "shards"
