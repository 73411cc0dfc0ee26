"""Arrays by name as one Arrow record batch, and back: rows of examples and of predictions."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from shoal.base import InputError

if TYPE_CHECKING:
    from shoal.data import Dataset


_BLANK = {"string": "", "bool": False}


def to_batch(arrays: Mapping[str, NDArray[Any]]) -> pa.RecordBatch:
    """One column per array, its first dimension the rows; further dimensions become a fixed-shape tensor."""
    return pa.RecordBatch.from_arrays([_column(array) for array in arrays.values()], names=list(arrays))


def to_arrays(batch: pa.RecordBatch) -> dict[str, NDArray[Any]]:
    """The arrays of a batch, in its order; those of tensors share its memory."""
    return {name: _array(batch.column(name)) for name in batch.schema.names}


def arrays_to_bytes(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """The arrays as the content of an Arrow IPC file."""
    batch = to_batch(arrays)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, batch.schema) as writer:
        writer.write_batch(batch)
    content: bytes = sink.getvalue().to_pybytes()
    return content


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Read a file with the content that `arrays_to_bytes` made."""
    # Read rather than mapped: the arrays then outlive the folder.
    return to_arrays(pa.ipc.open_file(pa.py_buffer(path.read_bytes())).get_batch(0))


def row_batches(
    dataset: "Dataset", columns: Sequence[str], batch_rows: int, *, masked: Sequence[str] = ()
) -> Iterator[dict[str, NDArray[Any]]]:
    """Yield all rows of a dataset in storage order, as arrays of at most `batch_rows` rows.

    Columns in `masked` may lack values: "<name>_mask" tells which rows have one, the others hold zeros or empty texts.

    Raises:
        InputError: a value is missing in another column: a model computes with numbers alone.
    """
    for batch in dataset.batches(columns=list(columns), batch_rows=batch_rows):
        for name in batch.schema.names:
            if (nulls := batch.column(name).null_count) and name not in masked:
                raise InputError(
                    f"column {name!r} of {dataset.address} has no value in {nulls} of {batch.num_rows} rows",
                    next_step="fill or remove these rows, then try again",
                )
        yield {**to_arrays(batch), **_with_masks(batch, masked)}


def _with_masks(batch: pa.RecordBatch, masked: Sequence[str]) -> dict[str, NDArray[Any]]:
    found: dict[str, NDArray[Any]] = {}
    for name in masked:
        column = batch.column(name)
        # Arrow's own conversion would turn whole numbers with nulls into floats.
        found[name] = _array(column.fill_null(_BLANK.get(str(column.type), 0)))
        found[f"{name}_mask"] = column.is_valid().to_numpy(zero_copy_only=False)
    return found


def repeat_rows(arrays: Mapping[str, NDArray[Any]], num_rows: int) -> dict[str, NDArray[Any]]:
    """Cut or repeat the rows of the arrays, in order, to exactly `num_rows`."""
    return {name: np.resize(array, (num_rows, *array.shape[1:])) for name, array in arrays.items()}


def _column(array: NDArray[Any]) -> pa.Array:
    plain = np.ascontiguousarray(array)
    if plain.ndim == 1:
        return pa.array(plain)
    return pa.FixedShapeTensorArray.from_numpy_ndarray(plain)


def _array(column: pa.Array) -> NDArray[Any]:
    if isinstance(column, pa.FixedShapeTensorArray):
        tensor: NDArray[Any] = column.to_numpy_ndarray()
        return tensor
    values: NDArray[Any] = column.to_numpy(zero_copy_only=False)
    return values
