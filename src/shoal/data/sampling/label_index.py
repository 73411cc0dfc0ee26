"""The k-th row of each class, from two bits per row for each doubling of the number of classes.

A wavelet matrix (Claude, Navarro and Ordóñez 2015): level l has the l-th highest bit of every row's class; between
levels the rows are parted by that bit, zeros first, in unchanged order. At the end the rows of a class lie together,
and from there the way back to a row's number takes one select per level.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from shoal.base import digest_json
from shoal.data.sampling.binding import Readable
from shoal.data.sampling.bits import MaskWriter, RowMask, mask_in
from shoal.data.sampling.classes import Classes, count_classes, label_column
from shoal.data.sampling.derived import ArrayWriter, derived_arrays

Rows = NDArray[np.int64]
_PIECE_ROWS = 1 << 20


class LabelIndex:
    """The classes of a column and where their rows are; immutable, mapped, for any number of threads."""

    def __init__(self, classes: Classes, levels: list[tuple[RowMask, RowMask]]) -> None:
        self.classes = classes
        self._levels = levels
        codes = np.arange(len(classes))
        # At the end the rows stand in the order of their class's bits read backwards.
        backwards = sum(((codes >> bit) & 1) << (len(levels) - 1 - bit) for bit in range(len(levels)))
        order = np.argsort(np.broadcast_to(backwards, codes.shape), kind="stable")
        self._firsts = np.empty(len(classes), np.int64)
        self._firsts[order] = np.cumsum(classes.counts[order]) - classes.counts[order]

    def rows(self, codes: Rows, places: Rows) -> Rows:
        """Return int64: for each (class, k) the number of the k-th row of the class, in storage order."""
        at = self._firsts[codes] + places
        for level in reversed(range(len(self._levels))):
            zeros, ones = self._levels[level]
            is_one = ((codes >> (len(self._levels) - 1 - level)) & 1).astype(np.bool_)
            found = np.empty_like(at)
            found[is_one] = ones.select(at[is_one] - zeros.count)
            found[~is_one] = zeros.select(at[~is_one])
            at = found
        return at


def label_index(dataset: Readable, by: str) -> LabelIndex:
    """Return the index of a column's classes, kept beside the dataset; memory is bounded while it is built.

    Raises:
        InputError: the column has no classes, or more than 65,536.
        SchemaError: there is no such column.
    """
    column = label_column(dataset.schema, by)
    name = digest_json({"dataset": dataset.digest, "index": by}).removeprefix("b3:")
    arrays = derived_arrays(dataset.path, f"{name}.labels", lambda writer: _write(dataset, by, writer))
    values = pa.ipc.open_stream(pa.py_buffer(arrays["values"])).read_all().column(0).combine_chunks()
    classes = Classes(column, values, arrays["counts"])
    num_levels = _num_levels(len(classes))
    return LabelIndex(classes, [(mask_in(arrays, f"zeros{i}"), mask_in(arrays, f"ones{i}")) for i in range(num_levels)])


def _num_levels(num_classes: int) -> int:
    return max(0, num_classes - 1).bit_length()


def _write(dataset: Readable, by: str, writer: ArrayWriter) -> None:
    column = label_column(dataset.schema, by)
    classes = count_classes((batch.column(0) for batch in dataset.batches([by])), column)
    sink = pa.BufferOutputStream()
    table = pa.table({by: classes.values})
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    writer.add("values", np.frombuffer(sink.getvalue(), np.uint8))
    writer.add("counts", classes.counts.astype("<i8"))
    num_levels = _num_levels(len(classes))
    # Two bytes a row on the disk while it is built: the classes in the order of the level at hand, and of the next one.
    with tempfile.TemporaryDirectory() as folder:
        here, there = (_on_disk(Path(folder) / name, dataset.num_rows) for name in ("here", "there"))
        first = 0
        for batch in dataset.batches([by]):
            here[first : first + batch.num_rows] = classes.codes(batch.column(0))
            first += batch.num_rows
        for level in range(num_levels):
            _write_level(writer, level, here, there, num_levels - 1 - level)
            here, there = there, here


def _on_disk(path: Path, num_rows: int) -> NDArray[np.uint16]:
    return np.memmap(path, np.uint16, "w+", shape=(max(1, num_rows),))[:num_rows]


def _write_level(
    writer: ArrayWriter, level: int, here: NDArray[np.uint16], there: NDArray[np.uint16], shift: int
) -> None:
    num_parted = 0
    for name, wanted in (("zeros", 0), ("ones", 1)):
        mask = MaskWriter(writer, f"{name}{level}")
        for codes in _pieces(here):
            flags = ((codes >> shift) & 1) == wanted
            mask.add(flags)
            kept = codes[flags]
            there[num_parted : num_parted + len(kept)] = kept
            num_parted += len(kept)
        mask.finish()


def _pieces(codes: NDArray[np.uint16]) -> Iterator[NDArray[np.uint16]]:
    for first in range(0, len(codes), _PIECE_ROWS):
        yield codes[first : first + _PIECE_ROWS]
