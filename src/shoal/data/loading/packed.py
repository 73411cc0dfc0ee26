"""Rows of varying length in a batch: packed behind each other, padded to the longest, or as Python objects."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from shoal.base import UnsupportedError
from shoal.data.native import Table, gather_items
from shoal.data.schema import Column

if TYPE_CHECKING:
    import pyarrow as pa

# Arrow's offsets, as shards have them, are numbers of 32 bits.
MAX_ITEMS = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Packed:
    """Rows right behind each other: row i is values[offsets[i] : offsets[i + 1]].

    `values` are bytes for text (UTF-8) and blobs, numbers for lists of numbers; `offsets` int64 [num_rows + 1] count
    them and begin with 0.
    """

    values: NDArray[Any]
    offsets: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> NDArray[np.int64]:
        """How many values each row has."""
        return np.diff(self.offsets)

    def padded(self, value: float) -> NDArray[Any]:
        """Return [num_rows, longest]: every row from its start, filled up with `value`."""
        longest = int(self.lengths.max(initial=0))
        filled = np.full((len(self), longest), value, self.values.dtype)
        if filled.size:
            table = Table(np.zeros(1, np.int64))
            table.put(0, self.values.view(np.uint8), row_bytes=0)
            places = np.zeros(len(self), np.int32)
            starts = self.offsets[:-1]
            gather_items(starts, places, table, self.values.itemsize, self.offsets, longest, filled.view(np.uint8))
        return filled

    def arrow(self, column: Column, valid: NDArray[np.bool_] | None = None) -> "pa.Array":
        """Return the rows as the Arrow array in which the column is stored, sharing the values' memory.

        Raises:
            UnsupportedError: they hold more items than Arrow's offsets of 32 bits can count.
        """
        import pyarrow as pa  # batches of tensors do without it

        if len(self) and self.offsets[-1] > MAX_ITEMS:
            raise UnsupportedError(
                f"cannot put {len(self)} rows of {column} into one Arrow array: they have {self.offsets[-1]} items, at "
                f"most {MAX_ITEMS} fit",
                next_step="take fewer rows at once: a smaller batch_size, or format='torch', which packs them",
            )
        bitmap = None if valid is None else pa.py_buffer(np.packbits(valid, bitorder="little"))
        offsets = pa.py_buffer(self.offsets.astype(np.int32))
        values = pa.py_buffer(self.values.view(np.uint8))
        if not column.is_list:
            return pa.Array.from_buffers(column.arrow_type(), len(self), [bitmap, offsets, values])
        kind = column.arrow_type()
        flat = pa.Array.from_buffers(kind.value_type, len(self.values), [None, values])
        return pa.Array.from_buffers(kind, len(self), [bitmap, offsets], children=[flat])

    def objects(self, column: Column, valid: NDArray[np.bool_] | None = None) -> NDArray[np.object_]:
        """Return one Python object a row: text, bytes, or an array of numbers; None for a row without a value."""
        if not column.is_list:
            found: NDArray[np.object_] = self.arrow(column, valid).to_numpy(zero_copy_only=False)
            return found
        rows = np.empty(len(self), object)
        for index in range(len(self)):
            if valid is None or valid[index]:
                rows[index] = self.values[self.offsets[index] : self.offsets[index + 1]]
        return rows


def pack(rows: NDArray[np.object_] | list[Any], column: Column) -> Packed:
    """Return Python objects as packed rows; None counts as empty."""
    import pyarrow as pa

    kind = column.arrow_type()
    array = pa.array([None if row is None else row for row in rows], type=kind)
    buffers = array.buffers()
    offsets = np.frombuffer(buffers[1], np.int32, len(array) + 1).astype(np.int64) if len(array) else np.zeros(1, int)
    data = np.frombuffer(buffers[-1] or b"", np.uint8)
    return Packed(data.view(column.dtype) if column.is_list else data[: offsets[-1]], offsets)
