"""Floats that count as equal with equal bits: one zero, one NaN, so that they group, hash and compare as one value."""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray


def canonical_floats(values: NDArray[Any]) -> NDArray[Any]:
    """Return the values with 0.0 for -0.0 and one NaN for all; what is no float stays as it is."""
    if values.dtype.kind != "f":
        return values
    # Adding a zero changes -0.0 and nothing else.
    folded: NDArray[Any] = np.where(np.isnan(values), values.dtype.type(np.nan), values + values.dtype.type(0))
    return folded


def canonical_array(array: pa.Array) -> pa.Array:
    """Return the same of an Arrow array; tensors and lists must be without nulls."""
    types = pa.types
    if isinstance(array, pa.ExtensionArray):
        return pa.ExtensionArray.from_storage(array.type, canonical_array(array.storage))
    if types.is_fixed_size_list(array.type):
        return pa.FixedSizeListArray.from_arrays(canonical_array(array.flatten()), array.type.list_size)
    if types.is_list(array.type):
        return pa.ListArray.from_arrays(array.offsets, canonical_array(array.values))
    if not types.is_floating(array.type):
        return array
    filled = pc.fill_null(array, pa.scalar(0.0).cast(array.type)) if array.null_count else array
    values = canonical_floats(filled.to_numpy(zero_copy_only=False))
    return pa.array(values, array.type, mask=array.is_null().to_numpy(zero_copy_only=False))
