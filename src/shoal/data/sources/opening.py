"""Any rows a user may give, as a source."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa

from shoal.base import SourceError, is_handle
from shoal.data.remote.location import is_url
from shoal.data.sources.arrow import ArrowSource
from shoal.data.sources.base import OnBad, RejectingSource, Source
from shoal.data.sources.csv import CsvFormat
from shoal.data.sources.facts import SourceFact
from shoal.data.sources.finding import find_inputs
from shoal.data.sources.huggingface import HuggingFaceSource, is_huggingface
from shoal.data.sources.images import IMAGE_SUFFIXES, ImageFolderSource
from shoal.data.sources.inputs import Input
from shoal.data.sources.jsonl import JsonlFormat
from shoal.data.sources.memory import ArraysSource, MemorySource, StreamSource
from shoal.data.sources.parquet import ParquetSource
from shoal.data.sources.rows import RowsSource
from shoal.data.sources.text import TextSource

_KINDS = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".csv": "csv",
    ".tsv": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".arrow": "arrow",
    ".arrows": "arrow",
    ".feather": "arrow",
    ".ipc": "arrow",
}
_READERS: Mapping[str, Callable[[tuple[Input, ...]], Source]] = {
    "parquet": ParquetSource.of_inputs,
    "arrow": ArrowSource.of_inputs,
    "csv": lambda files: TextSource(files, CsvFormat()),
    "tsv": lambda files: TextSource(files, CsvFormat(delimiter="\t")),
    "jsonl": lambda files: TextSource(files, JsonlFormat()),
}


def open_source(given: object) -> Source:
    """Return a source for what a user may give.

    Args:
        given: a `Source`; files by path, pattern, folder or URL, or several (.parquet, .csv, .tsv, .jsonl, .arrow,
            .feather; text compressed or not); a folder of images; a dict of NumPy arrays, torch tensors or lists;
            anything with `__arrow_c_stream__` (pyarrow, pandas, polars, another dataset); a dataset of Hugging Face;
            an iterable of dicts, named tuples, data classes or `pyarrow.RecordBatch`.

    Raises:
        SourceError: it is none of these, a file is missing, or arrays differ in length.
    """
    if isinstance(given, Source):
        return given
    if isinstance(given, str | os.PathLike):
        return _open_files([given])
    if is_huggingface(given):
        return HuggingFaceSource(given)
    if isinstance(given, Mapping):
        return ArraysSource(given)
    if isinstance(given, pa.RecordBatch):
        return MemorySource([given], "Arrow rows in memory")
    if hasattr(given, "__arrow_c_stream__"):
        name, digest = (given.address, given.digest) if is_handle(given) else (f"a {type(given).__name__}", None)
        return StreamSource(given, name, digest)
    if isinstance(given, Sequence) and given and all(isinstance(item, str | os.PathLike) for item in given):
        return _open_files(list(given))
    if isinstance(given, Iterable) and not isinstance(given, bytes | bytearray):
        return _open_iterable(given)
    raise SourceError(
        f"cannot read rows from a {type(given).__name__}: expected paths, NumPy arrays in a dict, an Arrow stream, "
        "rows, record batches or a Source",
        next_step="convert it, for example with pyarrow.table({...})",
    )


def _open_files(places: list[str | os.PathLike[str]]) -> Source:
    if len(places) == 1 and not is_url(places[0]) and _is_folder_of_images(Path(places[0]).expanduser()):
        return ImageFolderSource(places[0])
    files = find_inputs(places)
    kinds = {_KINDS.get(file.suffix) for file in files}
    unknown = next((file for file in files if file.suffix not in _KINDS), None)
    if unknown is not None:
        raise SourceError(
            f"cannot read {unknown.name}: its suffix is {unknown.suffix!r}, expected one of {', '.join(_KINDS)}",
            next_step="rename the file, or read it yourself and give the rows as pyarrow record batches",
        )
    if len(kinds) > 1:
        return _Chained([_READERS[_KINDS[file.suffix]]((file,)) for file in files])
    return _READERS[_KINDS[files[0].suffix]](files)


def _is_folder_of_images(path: Path) -> bool:
    if not path.is_dir():
        return False
    entries = (entry for entry in path.rglob("*") if entry.is_file() and not entry.name.startswith("."))
    first = next(entries, None)
    return first is not None and first.suffix.lower() in IMAGE_SUFFIXES


def _open_iterable(given: Iterable[Any]) -> Source:
    if isinstance(given, Sequence):
        first = given[0] if given else None
        whole: Iterable[Any] = given
    else:
        iterator = iter(given)
        first = next(iterator, None)
        whole = chain([first], iterator) if first is not None else ()
    if first is None or isinstance(first, pa.RecordBatch):
        return MemorySource(whole, "Arrow rows in memory")
    return RowsSource(whole)


class _Chained:
    """Files of several kinds with the same columns, one after the other."""

    def __init__(self, sources: list[Source]) -> None:
        self._sources = sources
        self.on_bad: OnBad = "raise"

    def record_batches(self) -> Iterator[pa.RecordBatch]:
        for source in self._sources:
            if isinstance(source, RejectingSource):
                source.on_bad = self.on_bad
            yield from source.record_batches()

    def facts(self) -> tuple[SourceFact, ...]:
        return tuple(fact for source in self._sources for fact in source.facts())

    def rejects(self) -> Iterator[pa.RecordBatch]:
        for source in self._sources:
            if isinstance(source, RejectingSource):
                yield from source.rejects()
