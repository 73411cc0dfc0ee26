"""Columns whose rows differ in length, as two arrays: where each row begins, and the bytes of all rows."""

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from shoal.data.schema import Column, value_types


@dataclass(frozen=True, slots=True, kw_only=True)
class Texts:
    """Row i is `data[offsets[i] * width : offsets[i + 1] * width]`; a row without a value is empty.

    `offsets` int32 [num_rows + 1] need not begin at 0; `valid` bool [num_rows], or None when every row has a value.
    `width` is 1 for text and blobs, and the size of a number for lists of them.
    """

    offsets: NDArray[np.int32]
    data: NDArray[np.uint8]
    valid: NDArray[np.bool_] | None
    width: int = 1

    def to_list(self) -> list[bytes]:
        """Return each row's bytes."""
        starts = (self.offsets.astype(np.int64) * self.width).tolist()
        data = self.data.tobytes() if len(self.data) else b""
        return [data[start:stop] for start, stop in itertools.pairwise(starts)]

    def values(self, column: Column) -> NDArray[Any]:
        """Return the numbers of all rows of a list column, one after the other."""
        start, stop = int(self.offsets[0]) * self.width, int(self.offsets[-1]) * self.width
        return self.data[start:stop].view(column.dtype)

    def to_arrow(self, column: Column) -> pa.Array:
        """Return the rows as the Arrow array that a shard stores; `offsets` must begin at 0 for it to be canonical."""
        valid = None if self.valid is None or self.valid.all() else self.valid
        bitmap = None if valid is None else pa.py_buffer(np.packbits(valid, bitorder="little").tobytes())
        num_rows = len(self.offsets) - 1
        offsets, data = pa.py_buffer(self.offsets), pa.py_buffer(self.data)
        if not column.is_list:
            return pa.Array.from_buffers(column.arrow_type(), num_rows, [bitmap, offsets, data])
        numbers = pa.Array.from_buffers(value_types()[column.dtype], len(self.data) // self.width, [None, data])
        return pa.Array.from_buffers(column.arrow_type(), num_rows, [bitmap, offsets], children=[numbers])


def texts_of(array: pa.Array, column: Column) -> Texts:
    """Return an Arrow array of text, blobs or lists of numbers as views of its buffers."""
    valid = None if array.null_count == 0 else array.is_valid().to_numpy(zero_copy_only=False)
    buffers = array.buffers()
    num_rows = len(array)
    offsets = _view(buffers[1], np.int32)[array.offset : array.offset + num_rows + 1]
    if len(offsets) == 0:
        offsets = np.zeros(num_rows + 1, np.int32)
    if valid is not None and np.diff(offsets)[~valid].any():
        # Bytes behind a null are rare and mean nothing: a copy without them is the only form we know.
        return texts_of(array.take(pa.array(np.arange(num_rows))) if column.is_list else _without_hidden(array), column)
    if not column.is_list:
        return Texts(offsets=offsets, data=_view(buffers[2], np.uint8), valid=valid)
    numbers = array.values
    width = np.dtype(column.dtype).itemsize
    data = _view(numbers.buffers()[1], np.uint8)[numbers.offset * width : (numbers.offset + len(numbers)) * width]
    return Texts(offsets=offsets, data=data, valid=valid, width=width)


def _without_hidden(array: pa.Array) -> pa.Array:
    return pc.if_else(
        array.is_valid(), array.fill_null("" if pa.types.is_string(array.type) else b""), pa.scalar(None, array.type)
    )


def _view(buffer: pa.Buffer | None, dtype: Any) -> NDArray[Any]:  # noqa: ANN401  # whatever NumPy takes as a type
    return np.frombuffer(buffer if buffer is not None else b"", dtype)
