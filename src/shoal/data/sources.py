"""Where rows come from: one small interface, and the ways to get it from what users have at hand."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from shoal.base import SourceError, digest_file, is_handle
from shoal.data.manifest import SourceFact

_ROWS_PER_BATCH = 8_192


@runtime_checkable
class Source(Protocol):
    """Rows that can be read once, in order, as record batches that all have the same columns.

    A source keeps its memory bounded: it does not hold all batches at once. It raises SourceError for anything
    unreadable, naming the file, what was found and what was expected.
    """

    def record_batches(self) -> Iterator[pa.RecordBatch]:
        """Yield the rows as `pyarrow.RecordBatch`; called once."""
        ...

    def facts(self) -> tuple[SourceFact, ...]:
        """Say where the rows came from; complete once all batches have been read."""
        ...


class FileSource:
    """Parquet, Arrow IPC or CSV files, told apart by their suffix, read one after the other."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = paths
        self._facts: list[SourceFact] = []

    def record_batches(self) -> Iterator[pa.RecordBatch]:
        """Yield the rows of all files, in the given order."""
        for path in self._paths:
            num_rows = 0
            for batch in _read_file(path):
                num_rows += batch.num_rows
                yield batch
            self._facts.append(SourceFact(path=str(path), digest=digest_file(path), num_rows=num_rows))

    def facts(self) -> tuple[SourceFact, ...]:
        """Name each file with its digest."""
        return tuple(self._facts)


class MemorySource:
    """Record batches handed over by the caller; `name` says what they were."""

    def __init__(self, batches: Iterable[pa.RecordBatch], name: str, digest: str | None = None) -> None:
        self._batches = batches
        self._name = name
        self._digest = digest
        self._num_rows = 0

    def record_batches(self) -> Iterator[pa.RecordBatch]:
        """Yield the caller's batches as they come."""
        for batch in self._batches:
            if not isinstance(batch, pa.RecordBatch):
                raise SourceError(
                    f"cannot read rows from a {type(batch).__name__}: an iterable must give pyarrow.RecordBatch",
                    next_step="yield pyarrow.RecordBatch.from_pydict({...}), or give a dict of NumPy arrays",
                )
            self._num_rows += batch.num_rows
            yield batch

    def facts(self) -> tuple[SourceFact, ...]:
        """Name what was handed over."""
        return (SourceFact(path=self._name, digest=self._digest, num_rows=self._num_rows),)


def open_source(given: object) -> Source:
    """Return a source for what a user may give.

    Args:
        given: a `Source`; a path or several (.parquet, .arrow, .feather, .csv); a dict of NumPy arrays, one row per
            first index; anything with `__arrow_c_stream__` (pyarrow, pandas, polars, another dataset); an iterable of
            `pyarrow.RecordBatch`.

    Raises:
        SourceError: it is none of these, a file is missing, or arrays differ in length.
    """
    if isinstance(given, Source):
        return given
    if isinstance(given, str | Path):
        return FileSource([_existing(given)])
    if isinstance(given, Mapping):
        return MemorySource(_array_batches(given), "arrays in memory")
    if isinstance(given, pa.RecordBatch):
        return MemorySource([given], "Arrow rows in memory")
    if hasattr(given, "__arrow_c_stream__"):
        name, digest = (given.address, given.digest) if is_handle(given) else (f"a {type(given).__name__}", None)
        return MemorySource(pa.RecordBatchReader.from_stream(given), name, digest)
    if isinstance(given, Sequence) and given and all(isinstance(item, str | Path) for item in given):
        return FileSource([_existing(item) for item in given])
    if isinstance(given, Iterable):
        return MemorySource(given, "Arrow rows in memory")
    raise SourceError(
        f"cannot read rows from a {type(given).__name__}: expected paths, NumPy arrays in a dict, an Arrow stream, "
        "record batches or a Source",
        next_step="convert it, for example with pyarrow.table({...})",
    )


def _existing(path: str | Path) -> Path:
    found = Path(path).expanduser().absolute()
    if not found.is_file():
        what = "it is a folder" if found.is_dir() else "there is no such file"
        raise SourceError(f"cannot read {found}: {what}", next_step="give the path of a file, or a list of them")
    return found


def _read_file(path: Path) -> Iterator[pa.RecordBatch]:
    try:
        yield from _reader_for(path)(path)
    except (pa.ArrowException, EOFError, OSError) as error:
        # Arrow reports damaged files as OSError too; what the system itself refuses keeps its own type.
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise SourceError(
            f"cannot read {path}: {error}", next_step="check that the file is whole and what its suffix says"
        ) from error


def _reader_for(path: Path) -> Callable[[Path], Iterator[pa.RecordBatch]]:
    readers = {".parquet": _read_parquet, ".csv": _read_csv, ".arrow": _read_arrow, ".feather": _read_arrow}
    if path.suffix.lower() not in readers:
        raise SourceError(
            f"cannot read {path}: its suffix is {path.suffix!r}, expected one of {', '.join(readers)}",
            next_step="rename the file, or read it yourself and give the rows as pyarrow record batches",
        )
    return readers[path.suffix.lower()]


def _read_parquet(path: Path) -> Iterator[pa.RecordBatch]:
    import pyarrow.parquet  # only Parquet sources pay for loading it

    with pyarrow.parquet.ParquetFile(path) as file:
        yield from file.iter_batches(batch_size=_ROWS_PER_BATCH)


def _read_csv(path: Path) -> Iterator[pa.RecordBatch]:
    import pyarrow.csv  # only CSV sources pay for loading it

    # One thread: only then does Arrow say which row is malformed.
    with pyarrow.csv.open_csv(path, read_options=pyarrow.csv.ReadOptions(use_threads=False)) as reader:
        yield from reader


def _read_arrow(path: Path) -> Iterator[pa.RecordBatch]:
    with pa.memory_map(str(path)) as mapped, pa.ipc.open_file(mapped) as reader:
        for index in range(reader.num_record_batches):
            yield reader.get_batch(index)


def _array_batches(arrays: Mapping[str, Any]) -> Iterator[pa.RecordBatch]:
    columns = {str(name): np.asarray(values) for name, values in arrays.items()}
    lengths = {name: len(values) if values.ndim else -1 for name, values in columns.items()}
    if len(set(lengths.values())) != 1 or -1 in lengths.values():
        raise SourceError(
            f"cannot make rows of arrays with these lengths: {lengths}",
            next_step="give at least one array, and every array the same first dimension",
        )
    num_rows = next(iter(lengths.values()))
    for start in range(0, num_rows, _ROWS_PER_BATCH):
        part = {name: _to_arrow(name, values[start : start + _ROWS_PER_BATCH]) for name, values in columns.items()}
        yield pa.RecordBatch.from_pydict(part)


def _to_arrow(name: str, values: NDArray[Any]) -> pa.Array:
    try:
        if values.ndim > 1:
            return pa.FixedShapeTensorArray.from_numpy_ndarray(np.ascontiguousarray(values))
        return pa.array(values)
    except (pa.ArrowException, TypeError) as error:
        raise SourceError(
            f"cannot make a column of array {name!r} ({values.dtype}, shape {list(values.shape)}): {error}",
            next_step=f"convert {name!r} to a type of numbers, text, bytes or booleans",
        ) from error
