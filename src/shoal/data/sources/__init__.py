"""Where rows come from: files, folders, URLs, frames, queries and iterables, all as one small interface."""

from typing import TYPE_CHECKING

from shoal.base import lazy_face

if TYPE_CHECKING:
    from shoal.data.sources.arrow import ArrowSource as ArrowSource
    from shoal.data.sources.base import OnBad as OnBad
    from shoal.data.sources.base import RejectingSource as RejectingSource
    from shoal.data.sources.base import SchemaWidenedError as SchemaWidenedError
    from shoal.data.sources.base import Source as Source
    from shoal.data.sources.csv import CsvSource as CsvSource
    from shoal.data.sources.huggingface import HuggingFaceSource as HuggingFaceSource
    from shoal.data.sources.idx_source import IdxSource as IdxSource
    from shoal.data.sources.images import ImageFolderSource as ImageFolderSource
    from shoal.data.sources.inspection import Inspection as Inspection
    from shoal.data.sources.inspection import inspect as inspect
    from shoal.data.sources.jsonl import JsonlSource as JsonlSource
    from shoal.data.sources.opening import open_source as open_source
    from shoal.data.sources.parquet import ParquetSource as ParquetSource
    from shoal.data.sources.positions import Positions as Positions
    from shoal.data.sources.positions import positions_of as positions_of
    from shoal.data.sources.rows import RowsSource as RowsSource
    from shoal.data.sources.sql import SqlSource as SqlSource

__all__ = [
    "ArrowSource",
    "CsvSource",
    "HuggingFaceSource",
    "IdxSource",
    "ImageFolderSource",
    "Inspection",
    "JsonlSource",
    "OnBad",
    "ParquetSource",
    "Positions",
    "RejectingSource",
    "RowsSource",
    "SchemaWidenedError",
    "Source",
    "SqlSource",
    "inspect",
    "open_source",
    "positions_of",
]

__getattr__ = lazy_face(
    __name__,
    {
        "OnBad": "base",
        "Positions": "positions",
        "positions_of": "positions",
        "CsvSource": "csv",
        "HuggingFaceSource": "huggingface",
        "ImageFolderSource": "images",
        "JsonlSource": "jsonl",
        "ParquetSource": "parquet",
        "ArrowSource": "arrow",
        "RowsSource": "rows",
        "SqlSource": "sql",
        "Inspection": "inspection",
        "inspect": "inspection",
        "RejectingSource": "base",
        "SchemaWidenedError": "base",
        "IdxSource": "idx_source",
        "Source": "base",
        "open_source": "opening",
    },
)
