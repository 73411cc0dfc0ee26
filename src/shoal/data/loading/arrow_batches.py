"""Gathered rows as Arrow record batches: to keep them in memory, and to hand them out."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from shoal.base import ConfigError, InputError
from shoal.data.columns import Decoded, Values, encode
from shoal.data.loading.buffers import Buffers
from shoal.data.loading.packed import Packed
from shoal.data.schema import Column, Schema


def as_record_batch(gathered: Mapping[str, Values | Packed], schema: Schema) -> pa.RecordBatch:
    """Return gathered rows as an Arrow record batch that shares their memory."""
    arrays = []
    for column in schema.columns:
        values, mask = gathered[column.name], gathered.get(f"{column.name}_mask")
        assert not isinstance(mask, Packed)
        arrays.append(_arrow_column(values, mask, column))
    return pa.RecordBatch.from_arrays(arrays, schema=schema.arrow())


def _arrow_column(values: Values | Packed, mask: Values | None, column: Column) -> pa.Array:
    if isinstance(values, Packed):
        return values.arrow(column, mask if mask is not None and not mask.all() else None)
    return encode(Decoded(values, mask), column)


class ArrowFormat:
    """A `pyarrow.RecordBatch` with the columns as they are stored; it holds its memory for as long as it lives."""

    def __init__(self, schema: Schema, pad: Mapping[str, float]) -> None:
        if pad:
            raise ConfigError(f"cannot pad {', '.join(pad)} in Arrow batches", next_step="leave out pad")
        self.buffers = Buffers()
        self._columns = {column.name: column for column in schema.columns}

    def __call__(self, arrays: Mapping[str, Any]) -> pa.RecordBatch:
        """Return a record batch; "<name>_mask" arrays become the nulls of <name>."""
        names, columns = [], []
        for name, values in arrays.items():
            if name.endswith("_mask") and name.removesuffix("_mask") in arrays:
                continue
            names.append(name)
            columns.append(_as_arrow(name, values, arrays.get(f"{name}_mask"), self._columns.get(name)))
        return pa.RecordBatch.from_arrays(columns, names=names)

    def hand_over(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Return the batch as it is."""
        return batch


def _as_arrow(name: str, values: Any, mask: NDArray[np.bool_] | None, column: Column | None) -> pa.Array:  # noqa: ANN401
    if isinstance(values, Packed) and column is not None:
        return values.arrow(column, mask)
    if isinstance(values, np.ndarray) and column is not None and column.is_fixed and values.shape[1:] == column.shape:
        wanted = np.dtype(np.int64) if column.dtype == "timestamp" else column.numpy_dtype
        if values.dtype == wanted:
            return encode(Decoded(values, mask), column)
    if isinstance(values, np.ndarray) and values.ndim > 1:
        return pa.FixedShapeTensorArray.from_numpy_ndarray(np.ascontiguousarray(values))
    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise InputError(
            f"cannot put {name!r} into an Arrow batch: {error}", next_step="return arrays of numbers, or text"
        ) from error
