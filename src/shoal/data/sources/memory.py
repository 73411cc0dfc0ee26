"""What is in memory already, as a source: record batches, Arrow streams, data frames and dicts of arrays."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from shoal.base import SourceError
from shoal.data.columns import Decoded, encode, from_numpy
from shoal.data.schema import NUMBERS, Column
from shoal.data.sources.facts import SourceFact
from shoal.data.sources.flattening import Flattening, flattened
from shoal.data.sources.positions import Positions, mark

_ROWS_PER_BATCH = 8_192


class MemorySource:
    """Record batches handed over by the caller; `name` says what they were. Columns are made plain on the way."""

    def __init__(self, batches: Iterable[pa.RecordBatch], name: str, digest: str | None = None) -> None:
        self._batches = batches
        self._name = name
        self._digest = digest
        self._num_rows = 0

    def record_batches(self) -> Iterator[pa.RecordBatch]:
        """Yield the caller's batches as they come."""
        self._num_rows = 0
        for batch in flattened(self._checked(), self._name):
            yield mark(batch, Positions(self._name, self._num_rows, "row"))
            self._num_rows += batch.num_rows

    def facts(self) -> tuple[SourceFact, ...]:
        """Name what was handed over."""
        return (SourceFact(path=self._name, digest=self._digest, num_rows=self._num_rows),)

    def _checked(self) -> Iterator[pa.RecordBatch]:
        for batch in self._batches:
            if not isinstance(batch, pa.RecordBatch):
                raise SourceError(
                    f"cannot read rows from a {type(batch).__name__}: an iterable must give pyarrow.RecordBatch",
                    next_step="yield pyarrow.RecordBatch.from_pydict({...}), or give a dict of NumPy arrays",
                )
            yield batch


class StreamSource:
    """Anything with `__arrow_c_stream__`: tables and readers of Arrow, frames of pandas and polars, datasets.

    Categories become their values; an index of a pandas frame that has a name is a column, and one without a name is
    left out where it only numbers the rows. A table or a frame can be read many times, a reader once.
    """

    def __init__(self, given: Any, name: str, digest: str | None = None) -> None:  # noqa: ANN401 - a protocol of C
        self._given = given
        self._name = name
        self._digest = digest
        self._num_rows = 0

    def record_batches(self) -> Iterator[pa.RecordBatch]:
        """Yield the rows.

        Raises:
            SourceError: a column holds objects of several types, or a type that no column of a dataset has; or an
                index without a name holds more than row numbers.
        """
        self._num_rows = 0
        for batch in flattened(self._opened(), self._name):
            # Whole frames come as one batch: cut, so that what follows stays in bounded memory.
            for start in range(0, batch.num_rows, _ROWS_PER_BATCH):
                part = batch.slice(start, _ROWS_PER_BATCH)
                yield mark(part, Positions(self._name, self._num_rows, "row"))
                self._num_rows += part.num_rows

    def facts(self) -> tuple[SourceFact, ...]:
        """Name what was handed over."""
        return (SourceFact(path=self._name, digest=self._digest, num_rows=self._num_rows),)

    def _opened(self) -> Iterator[pa.RecordBatch]:
        try:
            reader = pa.RecordBatchReader.from_stream(_with_index(self._given, self._name))
        except (pa.ArrowException, TypeError, ValueError) as error:
            raise SourceError(
                f"cannot read {self._name}: {'; '.join(map(str, error.args))}",
                next_step="convert the column that is named to one type, for example with .astype(str), or drop it",
            ) from error
        kept = [name for name in reader.schema.names if not name.startswith("__index_level_")]
        for field in reader.schema:
            # What is left of a frame that was filtered or shuffled are row numbers; anything else is somebody's data.
            if field.name not in kept and not pa.types.is_integer(field.type):
                raise SourceError(
                    f"cannot read {self._name}: its index holds {field.type} and has no name",
                    next_step="make it a column with frame.rename_axis('id').reset_index(), or drop it with "
                    "frame.reset_index(drop=True)",
                )
        for batch in reader:
            yield batch if len(kept) == batch.num_columns else batch.select(kept)


def _with_index(given: Any, name: str) -> Any:  # noqa: ANN401 - a frame of pandas, or anything else
    is_frame = hasattr(given, "reset_index") and hasattr(given, "columns")
    if not is_frame or not (names := {each for each in given.index.names if each is not None}):
        return given
    if twice := names & set(given.columns):
        raise SourceError(
            f"cannot read {name}: its index and one of its columns are both named {min(twice, key=str)!r}",
            next_step="rename the index with frame.rename_axis('id'), or drop it with frame.reset_index(drop=True)",
        )
    # Arrow leaves out an index that is a range, even one with a name, unless it is asked for.
    return pa.Table.from_pandas(given, preserve_index=True)


class ArraysSource:
    """A dict of equally long NumPy arrays, torch tensors or lists: one row for each first index.

    Arrays of more dimensions become tensors; booleans in them become 0 and 1 of uint8, the narrowest number.
    """

    def __init__(self, arrays: Mapping[str, Any], name: str = "arrays in memory") -> None:
        """Take the arrays, without copying them.

        Raises:
            SourceError: there are none, they differ in length, or one has no rows of one kind.
        """
        self._name = name
        self._columns = {str(title): _as_column(str(title), values) for title, values in arrays.items()}
        lengths = {
            title: -1 if getattr(values, "ndim", 1) == 0 else len(values) for title, values in self._columns.items()
        }
        if len(set(lengths.values())) != 1 or -1 in lengths.values():
            raise SourceError(
                f"cannot make rows of arrays with these lengths: {lengths}",
                next_step="give at least one array, and every array the same first dimension",
            )
        self._length = next(iter(lengths.values()))
        self._num_rows = 0
        self._first_row = 0

    def record_batches(self) -> Iterator[pa.RecordBatch]:
        """Yield the rows in their order."""
        self._num_rows = 0
        flattening: Flattening | None = None
        for start in range(0, self._length, _ROWS_PER_BATCH):
            stop = min(start + _ROWS_PER_BATCH, self._length)
            arrays = [_to_arrow(title, values[start:stop]) for title, values in self._columns.items()]
            batch = pa.RecordBatch.from_arrays(arrays, names=list(self._columns))
            flattening = flattening or Flattening(batch.schema, self._name)
            yield mark(flattening(batch), Positions(self._name, self._first_row + start, "row"))
            self._num_rows = stop

    def parts(self, num: int) -> "list[ArraysSource]":
        """Return about `num` sources of some of the rows each, in order."""
        step = max(-(-self._length // num), _ROWS_PER_BATCH)
        found = []
        for start in range(0, self._length, step):
            part = ArraysSource(
                {title: values[start : start + step] for title, values in self._columns.items()}, self._name
            )
            part._first_row = start
            found.append(part)
        return found

    def facts(self) -> tuple[SourceFact, ...]:
        """Say how many rows were handed over."""
        return (SourceFact(path=self._name, digest=None, num_rows=self._num_rows),)


def _as_column(title: str, values: Any) -> Any:  # noqa: ANN401 - whatever a user has
    if hasattr(values, "detach"):
        return _refusing(title, values, lambda: values.detach().cpu().numpy())
    if isinstance(values, np.ndarray | pa.Array):
        return values
    if isinstance(values, list | tuple):
        # Typed over the whole list at once: a part of it may have no value, or only whole numbers.
        if values and hasattr(values[0], "detach"):
            return np.stack([_as_column(title, value) for value in values])
        if values and isinstance(values[0], np.ndarray):
            return _stacked(title, values)
        return _refusing(title, values, lambda: pa.array(values))
    return np.asarray(values)


def _stacked(title: str, values: Any) -> Any:  # noqa: ANN401 - a list of arrays
    is_even = len({value.shape for value in values}) == 1
    return np.stack(values) if is_even else _refusing(title, values, lambda: pa.array(values))


def _refusing(title: str, values: Any, make: Callable[[], Any]) -> Any:  # noqa: ANN401 - as above
    try:
        return make()
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise SourceError(
            f"cannot make a column of {title!r}, a {type(values).__name__}: {error}",
            next_step=f"convert {title!r} to numbers, text, bytes or booleans of one type",
        ) from error


def _to_arrow(title: str, values: Any) -> pa.Array:  # noqa: ANN401 - an array of NumPy or Arrow
    if isinstance(values, pa.Array):
        return values
    try:
        if values.ndim > 1:
            numbers = values.astype(np.uint8) if values.dtype == np.bool_ else values
            column = Column(name=title, dtype=numbers.dtype.name, shape=numbers.shape[1:])
            if numbers.dtype.name in NUMBERS and numbers.dtype.isnative and all(column.shape):
                return encode(Decoded(numbers, None), column)
            return pa.FixedShapeTensorArray.from_numpy_ndarray(np.ascontiguousarray(numbers))
        if values.dtype.name in NUMBERS and values.dtype.isnative:
            return from_numpy(values)
        return pa.array(values)
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise SourceError(
            f"cannot make a column of array {title!r} ({values.dtype}, shape {list(values.shape)}): {error}",
            next_step=f"convert {title!r} to a type of numbers, text, bytes or booleans",
        ) from error
