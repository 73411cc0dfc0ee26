"""Records in: sources, sharded datasets with immutable versions, loaders that resume exactly, mergeable profiles."""

from typing import TYPE_CHECKING

from shoal.base import lazy_face

if TYPE_CHECKING:
    from shoal.data.column_profile import ColumnProfile as ColumnProfile
    from shoal.data.dataset import Dataset as Dataset
    from shoal.data.idx_source import IdxSource as IdxSource
    from shoal.data.loader import Batch as Batch
    from shoal.data.loader import Loader as Loader
    from shoal.data.manifest import SourceFact as SourceFact
    from shoal.data.opening import ingest as ingest
    from shoal.data.opening import open_dataset as open  # noqa: A004  # the face's own word: data.open(...)
    from shoal.data.profile import Profile as Profile
    from shoal.data.schema import Column as Column
    from shoal.data.schema import Schema as Schema
    from shoal.data.shard import Shard as Shard
    from shoal.data.sources import Source as Source

__all__ = [
    "Batch",
    "Column",
    "ColumnProfile",
    "Dataset",
    "IdxSource",
    "Loader",
    "Profile",
    "Schema",
    "Shard",
    "Source",
    "SourceFact",
    "ingest",
    "open",
]

__getattr__ = lazy_face(
    __name__,
    {
        "Batch": "loader",
        "Column": "schema",
        "ColumnProfile": "column_profile",
        "Dataset": "dataset",
        "IdxSource": "idx_source",
        "Loader": "loader",
        "Profile": "profile",
        "Schema": "schema",
        "Shard": "shard",
        "Source": "sources",
        "SourceFact": "manifest",
        "ingest": "opening",
        "open": "opening:open_dataset",
    },
)
