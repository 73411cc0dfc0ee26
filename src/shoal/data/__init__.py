"""Records in: sources, sharded datasets with immutable versions, loaders that resume exactly, mergeable profiles."""

from typing import TYPE_CHECKING

from shoal.base import lazy_face

if TYPE_CHECKING:
    from shoal.data import prepare as prepare
    from shoal.data.dataset import Dataset as Dataset
    from shoal.data.loading.loader import Loader as Loader
    from shoal.data.loading.pipeline import Batch as Batch
    from shoal.data.mixing import Mixture as Mixture
    from shoal.data.mixing import mix as mix
    from shoal.data.opening import ingest as ingest
    from shoal.data.opening import open_dataset as open  # noqa: A004  # the face's own word: data.open(...)
    from shoal.data.prepare.fitted import FittedPreparation as FittedPreparation
    from shoal.data.prepare.preparation import Preparation as Preparation
    from shoal.data.repairing import repair as repair
    from shoal.data.sampling.min_per_class import MinPerClass as MinPerClass
    from shoal.data.sampling.reservoirs import Reservoir as Reservoir
    from shoal.data.sampling.reservoirs import reservoir as reservoir
    from shoal.data.sampling.stratified import Stratified as Stratified
    from shoal.data.sampling.weighted import Weighted as Weighted
    from shoal.data.schema import Column as Column
    from shoal.data.schema import Schema as Schema
    from shoal.data.sources.arrow import ArrowSource as ArrowSource
    from shoal.data.sources.base import Source as Source
    from shoal.data.sources.csv import CsvSource as CsvSource
    from shoal.data.sources.facts import SourceFact as SourceFact
    from shoal.data.sources.huggingface import HuggingFaceSource as HuggingFaceSource
    from shoal.data.sources.idx_source import IdxSource as IdxSource
    from shoal.data.sources.images import ImageFolderSource as ImageFolderSource
    from shoal.data.sources.inspection import Inspection as Inspection
    from shoal.data.sources.inspection import inspect as inspect
    from shoal.data.sources.jsonl import JsonlSource as JsonlSource
    from shoal.data.sources.parquet import ParquetSource as ParquetSource
    from shoal.data.sources.rows import RowsSource as RowsSource
    from shoal.data.sources.sql import SqlSource as SqlSource
    from shoal.data.statistics.column_profile import ColumnProfile as ColumnProfile
    from shoal.data.statistics.profile import Profile as Profile
    from shoal.data.storage.shard import Shard as Shard
    from shoal.data.versions.balance import Balance as Balance
    from shoal.data.versions.collection import Garbage as Garbage
    from shoal.data.versions.collection import collect_garbage as collect_garbage
    from shoal.data.versions.difference import Difference as Difference

__all__ = [
    "ArrowSource",
    "Balance",
    "Batch",
    "Column",
    "ColumnProfile",
    "CsvSource",
    "Dataset",
    "Difference",
    "FittedPreparation",
    "Garbage",
    "HuggingFaceSource",
    "IdxSource",
    "ImageFolderSource",
    "Inspection",
    "JsonlSource",
    "Loader",
    "MinPerClass",
    "Mixture",
    "ParquetSource",
    "Preparation",
    "Profile",
    "Reservoir",
    "RowsSource",
    "Schema",
    "Shard",
    "Source",
    "SourceFact",
    "SqlSource",
    "Stratified",
    "Weighted",
    "collect_garbage",
    "ingest",
    "inspect",
    "mix",
    "open",
    "prepare",
    "repair",
    "reservoir",
]

__getattr__ = lazy_face(
    __name__,
    {
        "CsvSource": "sources.csv",
        "HuggingFaceSource": "sources.huggingface",
        "ImageFolderSource": "sources.images",
        "JsonlSource": "sources.jsonl",
        "ParquetSource": "sources.parquet",
        "ArrowSource": "sources.arrow",
        "RowsSource": "sources.rows",
        "SqlSource": "sources.sql",
        "Inspection": "sources.inspection",
        "inspect": "sources.inspection",
        "Batch": "loading.pipeline",
        "Garbage": "versions.collection",
        "Difference": "versions.difference",
        "Balance": "versions.balance",
        "Column": "schema",
        "ColumnProfile": "statistics.column_profile",
        "collect_garbage": "versions.collection",
        "Dataset": "dataset",
        "FittedPreparation": "prepare.fitted",
        "IdxSource": "sources.idx_source",
        "Loader": "loading.loader",
        "MinPerClass": "sampling.min_per_class",
        "Mixture": "mixing",
        "Preparation": "prepare.preparation",
        "Profile": "statistics.profile",
        "Schema": "schema",
        "Reservoir": "sampling.reservoirs",
        "Shard": "storage.shard",
        "Stratified": "sampling.stratified",
        "Weighted": "sampling.weighted",
        "mix": "mixing",
        "reservoir": "sampling.reservoirs",
        "Source": "sources.base",
        "SourceFact": "sources.facts",
        "ingest": "opening",
        "open": "opening:open_dataset",
        "repair": "repairing",
        "prepare": "",
    },
)
