"""Datasets on their way out, as objects of other libraries."""

from collections.abc import Iterable
from typing import Any

import pyarrow as pa

from shoal.base import UnsupportedError
from shoal.data.schema import Column, Schema


def make_huggingface(batches: Iterable[pa.RecordBatch], schema: Schema) -> Any:  # noqa: ANN401 - optional package
    """Return rows as a `datasets.Dataset` that shares the memory of the batches; tensors become lists in lists.

    Raises:
        UnsupportedError: `datasets` is not installed.
    """
    try:
        import datasets  # optional, and slow to load: only this function needs it
    except ImportError as error:
        raise UnsupportedError(
            "cannot make a Hugging Face dataset: the package datasets is not installed",
            next_step="pip install shoal[huggingface]",
        ) from error
    fields = [pa.field(column.name, _list_type(column), column.nullable) for column in schema.columns]
    plain = pa.schema(fields)
    converted = [
        pa.RecordBatch.from_arrays([_as_lists(batch.column(one.name), one.type) for one in plain], schema=plain)
        for batch in batches
    ]
    return datasets.Dataset(pa.Table.from_batches(converted, schema=plain))


def _list_type(column: Column) -> pa.DataType:
    kind = column.arrow_type()
    if not isinstance(kind, pa.FixedShapeTensorType):
        return kind
    nested = kind.value_type
    for size in reversed(column.shape):
        nested = pa.list_(nested, size)
    return nested


def _as_lists(array: pa.Array, wanted: pa.DataType) -> pa.Array:
    if not isinstance(array, pa.FixedShapeTensorArray):
        return array
    storage = array.storage
    shape = []
    kind = wanted
    while pa.types.is_fixed_size_list(kind):
        shape.append(kind.list_size)
        kind = kind.value_type
    start, size = storage.offset, storage.type.list_size
    values = storage.values.slice(start * size, len(storage) * size)
    for depth in reversed(range(1, len(shape))):
        values = pa.FixedSizeListArray.from_arrays(values, shape[depth])
    mask = storage.is_null() if storage.null_count else None
    return pa.FixedSizeListArray.from_arrays(values, type=wanted, mask=mask)
