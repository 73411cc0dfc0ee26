"""The distinct values of a label column, in order, and how many rows bear each: what strata and class weights go by."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from shoal.base import InputError
from shoal.data.canonical import canonical_array
from shoal.data.schema import Column, Schema

MAX_CLASSES = 65_536


@dataclass(frozen=True, slots=True)
class Classes:
    """The classes of a column: `values` ascending, NaN behind them, a missing value last; `counts` int64 [num_classes].

    All NaN are one class, and so are 0.0 and -0.0.
    """

    column: Column
    values: pa.Array
    counts: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.values)

    def codes(self, array: pa.Array) -> NDArray[np.int64]:
        """Return int64: for each value the place of its class; 0 for a value that was not counted."""
        codes: NDArray[np.int64] = self._places(array).fill_null(0).to_numpy().astype(np.int64)
        return codes

    def code_of(self, value: object) -> int:
        """Return the place of one value's class.

        Raises:
            InputError: no row has the value.
        """
        try:
            code = self._places(pa.array([value], self.values.type))[0].as_py()
        except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError):
            code = None
        if code is None:
            shown = ", ".join(map(repr, self.values.slice(0, 10).to_pylist()))
            raise InputError(
                f"no row has {self.column.name}={value!r}; the classes are {shown}{' ...' if len(self) > 10 else ''}",
                next_step="use the values as they are stored",
            )
        found: int = code
        return found

    def _places(self, array: pa.Array) -> pa.Array:
        return pc.index_in(_comparable(array), value_set=_comparable(self.values))


def label_column(schema: Schema, name: str) -> Column:
    """Return a column that rows can be grouped by.

    Raises:
        SchemaError: there is no such column.
        InputError: its values are tensors, lists or blobs.
    """
    column = schema[name]
    if column.shape or column.is_list or column.dtype == "binary":
        raise InputError(
            f"cannot group rows by {column}: expected numbers, text, booleans or instants",
            next_step="name the column of the labels",
        )
    return column


def count_classes(arrays: Iterable[pa.Array], column: Column) -> Classes:
    """Count the rows of each value in one pass; memory is that of the distinct values.

    Raises:
        InputError: there are more than 65,536 of them.
    """
    counts: dict[Any, int] = {}
    for array in arrays:
        for entry in pc.value_counts(_comparable(array)).to_pylist():
            # Each NaN of Python is a key of its own, unless it is the same object.
            value = math.nan if entry["values"] != entry["values"] else entry["values"]
            counts[value] = counts.get(value, 0) + entry["counts"]
        if len(counts) > MAX_CLASSES:
            raise InputError(
                f"column {column.name!r} has more than {MAX_CLASSES} distinct values, expected classes",
                next_step="name a column of labels, or split by="
                f"{column.name!r} to keep the rows of each value together",
            )
    values = sorted((value for value in counts if value is not None), key=lambda value: (value != value, value))
    values += [None] if None in counts else []
    return Classes(
        column,
        _as_stored(values, column.arrow_type()),
        np.fromiter((counts[value] for value in values), np.int64, len(values)),
    )


def _comparable(array: pa.Array) -> pa.Array:
    # Arrow looks up no float16, and counts 0.0 and -0.0 as two.
    return canonical_array(array.cast(pa.float32()) if pa.types.is_float16(array.type) else array)


def _as_stored(values: list[Any], arrow_type: pa.DataType) -> pa.Array:
    if not pa.types.is_float16(arrow_type):
        return pa.array(values, arrow_type)
    return pa.array(values, pa.float32()).cast(arrow_type)
