"""Which rows are meant: one version of a dataset, or a range of hashes in it, with its address and digest."""

from dataclasses import dataclass
from pathlib import Path

from shoal.base import UnsupportedError, digest_json
from shoal.data.manifest import Manifest, SourceFact
from shoal.data.schema import Schema
from shoal.data.shard import FULL_RANGE, HashRange, Shard


@dataclass(frozen=True)
class Selection:
    """A version of a dataset and a range of hashes; immutable, and nothing but the manifest has been read.

    It is a handle: `address` opens it again in any process that sees the folder, and `digest` depends on the content
    alone.
    """

    path: Path
    manifest: Manifest
    hash_range: HashRange = FULL_RANGE

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
        """Path and version, as in "/data/clicks@3", and for a subset its range of hashes behind "#"."""
        # Hexadecimal, as in the manifest: the end of the last range is 2**64, one digit more than any hash has.
        whole = f"{self.path}@{self.version}"
        return whole if self.hash_range == FULL_RANGE else f"{whole}#{self.hash_range[0]:x}-{self.hash_range[1]:x}"

    @property
    def digest(self) -> str:
        """The digest of columns, shards and hash range: equal wherever and whenever the same rows were stored."""
        if self.hash_range == FULL_RANGE:
            return self.manifest.digest
        return digest_json({"dataset": self.manifest.digest, "range": [f"{at:x}" for at in self.hash_range]})

    @property
    def schema(self) -> Schema:
        """The columns."""
        return self.manifest.schema

    @property
    def key(self) -> str | None:
        """The column whose value decides a row's hash; None when the whole row does."""
        return self.manifest.key

    @property
    def shards(self) -> tuple[Shard, ...]:
        """The shards that may hold rows of this dataset, in storage order."""
        return tuple(shard for shard in self.manifest.shards if shard.overlaps(self.hash_range))

    @property
    def sources(self) -> tuple[SourceFact, ...]:
        """Where the version's rows came from, those of earlier appends first."""
        return self.manifest.sources

    def shard_path(self, shard: Shard) -> Path:
        """Return where the shard's file lies."""
        return self.path / "shards" / shard.file_name
