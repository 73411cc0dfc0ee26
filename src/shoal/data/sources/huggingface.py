"""Datasets of Hugging Face as a source: what `datasets` holds, as the columns that a dataset of shoal stores."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from shoal.base import SourceError
from shoal.data.sources.facts import SourceFact
from shoal.data.sources.flattening import Flattening
from shoal.data.sources.positions import Positions, mark

_ROWS_PER_BATCH = 1_024


def is_huggingface(given: object) -> bool:
    """Whether this is one of the dataset classes of `datasets`, found out without importing it."""
    return any(kind.__module__.partition(".")[0] == "datasets" for kind in type(given).__mro__)


class HuggingFaceSource:
    """Rows of a `datasets.Dataset` or `IterableDataset`.

    Images are the bytes of their files. A ClassLabel column `label` keeps its numbers, and a column `label_name` has
    their names. Arrays of one shape are tensors. A `Dataset` can be read many times.
    """

    def __init__(self, given: Any) -> None:  # noqa: ANN401 - a class of an optional package
        """Take one split.

        Raises:
            SourceError: it is a dict of splits; the message names them.
        """
        if isinstance(given, dict):
            raise SourceError(
                f"cannot read a {type(given).__name__}: it holds the splits {', '.join(map(repr, given))}",
                next_step=f"give one of them, for example dataset[{next(iter(given), 'train')!r}]",
            )
        self._given = given
        self._num_rows = 0
        builder = getattr(getattr(given, "info", None), "dataset_name", None)
        self._name = f"Hugging Face dataset {builder or 'in memory'}, split {given.split or 'unnamed'}"

    def record_batches(self) -> Iterator[pa.RecordBatch]:
        """Yield the rows in the dataset's order, with its indices applied."""
        self._num_rows = 0
        flattening: Flattening | None = None
        for table in self._given.with_format("arrow").iter(_ROWS_PER_BATCH):
            features = self._given.features or {}
            columns: dict[str, pa.Array] = {}
            for name in table.column_names:
                array = table.column(name).combine_chunks()
                columns |= _converted(name, array, features.get(name))
            batch = pa.RecordBatch.from_pydict(columns)
            flattening = flattening or Flattening(batch.schema, self._name)
            yield mark(flattening(batch), Positions(self._name, self._num_rows, "row"))
            self._num_rows += batch.num_rows

    def facts(self) -> tuple[SourceFact, ...]:
        """Name the dataset and its split."""
        return (SourceFact(path=self._name, digest=None, num_rows=self._num_rows),)


def _converted(name: str, array: pa.Array, feature: Any) -> dict[str, pa.Array]:  # noqa: ANN401 - optional package
    kind = type(feature).__name__
    if kind == "ClassLabel":
        names = pa.array(feature.names, pa.string())
        # -1 says "unknown" in datasets: such a row has a number and no name.
        known = pa.compute.if_else(pa.compute.less(array, 0), None, array)
        return {name: array, f"{name}_name": names.take(known)}
    if kind in ("Image", "Audio", "Video") and pa.types.is_struct(array.type):
        return {name: _file_bytes(name, array)}
    shape = getattr(feature, "shape", None)
    if kind.startswith("Array") and shape and None not in shape:
        storage = array.storage if isinstance(array, pa.ExtensionArray) else array
        values = np.array(storage.to_pylist(), dtype=feature.dtype).reshape(len(array), *shape)
        return {name: pa.FixedShapeTensorArray.from_numpy_ndarray(values)}
    return {name: array}


def _file_bytes(name: str, array: pa.StructArray) -> pa.Array:
    found = []
    for row in array.to_pylist():
        data = row["bytes"] if row else None
        if row and data is None and row["path"]:
            try:
                data = Path(row["path"]).read_bytes()
            except OSError as error:
                raise SourceError(
                    f"cannot read {row['path']} of column {name!r}: {error}",
                    next_step="load the dataset where its files are, or embed them: dataset.map(..., decode=False)",
                ) from error
        found.append(data)
    return pa.array(found, pa.binary())
