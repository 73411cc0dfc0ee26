"""Keys that must not come twice: found exactly, whatever the number of rows, by sorting them on the disk."""

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from shoal.base import InputError
from shoal.data.canonical import canonical_array
from shoal.data.hashing import row_hashes
from shoal.data.schema import HASH_COLUMN, HASH_SPAN, Column, Schema
from shoal.data.storage.sorting import SortedRuns

_ORDINAL = "_row"
_RANGE_BYTES = 16 << 20
# Keys are small: a quarter of what rows may take.
_RUN_BYTES = 64 << 20


@dataclass(frozen=True, slots=True, init=False)
class Unique:
    """No two rows have the same values in these columns; the first row that came is the good one.

    Rows with a null among them are not compared; -0.0 is 0.0, and all NaN are one value. The rows are written aside
    once, and the dataset is made of them after all have been seen: this costs about as much again as ingesting without
    it.
    """

    columns: tuple[str, ...]

    def __init__(self, *columns: str) -> None:
        if not columns:
            raise InputError("Unique() names no column", next_step='for example Unique("user_id")')
        object.__setattr__(self, "columns", columns)

    @property
    def expected(self) -> str:
        """What a good row is."""
        return f"{' and '.join(map(repr, self.columns))} that no row before it has"


class SeenKeys:
    """Takes the keys of all rows in order, then says which rows came with a key that was there before.

    Memory is bounded, but for 8 bytes for each duplicate found. For one thread.
    """

    def __init__(self, unique: Unique, schema: Schema, folder: Path) -> None:
        """Keep the keys of `unique` in files of `folder`, which exists and belongs to this object alone."""
        self._columns = tuple(schema[name] for name in unique.columns)
        ordinal = Column(name=_ORDINAL, dtype="int64")
        self._keys = Schema(self._columns)
        self._runs = SortedRuns(Schema((*self._columns, ordinal)), folder, _RUN_BYTES)

    def add(self, batch: pa.RecordBatch, first: int) -> None:
        """Take a batch whose rows have the numbers from `first` on."""
        keys = batch.select([column.name for column in self._columns])
        keys = keys.append_column(_ORDINAL, pa.array(np.arange(first, first + batch.num_rows, dtype=np.int64)))
        if any(keys.column(column.name).null_count for column in self._columns):
            keys = keys.filter(pc.and_(*_twice([keys.column(column.name).is_valid() for column in self._columns])))
        keys = pa.RecordBatch.from_arrays([canonical_array(each) for each in keys.columns], names=keys.schema.names)
        self._runs.add(keys, row_hashes(keys, self._keys, None))

    def repeated(self) -> NDArray[np.int64]:
        """Return the numbers of all rows whose key came before, ascending; call once, after the last row."""
        self._runs.finish()
        num_ranges = max(math.ceil(self._runs.size_bytes / _RANGE_BYTES), 1)
        borders = [index * HASH_SPAN // num_ranges for index in range(num_ranges + 1)]
        found: list[NDArray[np.int64]] = [np.zeros(0, np.int64)]
        if self._runs.num_rows:
            for low, high in itertools.pairwise(borders):
                found += self._repeated_in(self._runs.between((low, high)))
        return np.sort(np.concatenate(found))

    def _repeated_in(self, batch: pa.RecordBatch) -> Iterator[NDArray[np.int64]]:
        hashes = batch.column(HASH_COLUMN).to_numpy()
        same = np.flatnonzero(hashes[1:] == hashes[:-1]) + 1
        if not len(same):
            return
        # Equal hashes stand together in the order they came: each row is compared with the first of its hash.
        starts = np.flatnonzero(np.concatenate([[True], hashes[1:] != hashes[:-1]]))
        firsts = starts[np.searchsorted(starts, same, side="right") - 1]
        is_equal = np.ones(len(same), np.bool_)
        for column in self._columns:
            is_equal &= _equal(batch.column(column.name), firsts, same)
        ordinals = batch.column(_ORDINAL).to_numpy()
        yield ordinals[same[is_equal]]
        if not is_equal.all():
            yield self._repeated_by_value(batch, firsts[~is_equal])

    def _repeated_by_value(self, batch: pa.RecordBatch, firsts: NDArray[np.int64]) -> NDArray[np.int64]:
        # Different keys with one 64-bit hash: so rare that their rows are compared one by one.
        hashes = batch.column(HASH_COLUMN).to_numpy()
        rows = np.flatnonzero(np.isin(hashes, hashes[firsts]))
        some = batch.take(pa.array(rows)).drop_columns([HASH_COLUMN]).to_pylist()
        seen: set[str] = set()
        found = []
        for row in some:
            ordinal = row.pop(_ORDINAL)
            found += [ordinal] if repr(row) in seen else []
            seen.add(repr(row))
        equal_to_first = set(self._equal_to_first(batch, rows))
        return np.array([ordinal for ordinal in found if ordinal not in equal_to_first], np.int64)

    def _equal_to_first(self, batch: pa.RecordBatch, rows: NDArray[np.int64]) -> list[int]:
        hashes = batch.column(HASH_COLUMN).to_numpy()[rows]
        starts = np.flatnonzero(np.concatenate([[True], hashes[1:] != hashes[:-1]]))
        firsts = rows[starts[np.searchsorted(starts, np.arange(len(rows)), side="right") - 1]]
        is_equal = rows != firsts
        for column in self._columns:
            is_equal &= _equal(batch.column(column.name), firsts, rows)
        ordinals: list[int] = batch.column(_ORDINAL).to_numpy()[rows[is_equal]].tolist()
        return ordinals


def _equal(array: pa.Array, left: NDArray[np.int64], right: NDArray[np.int64]) -> NDArray[np.bool_]:
    if isinstance(array, pa.ExtensionArray) or pa.types.is_nested(array.type):
        rows = [repr(value) for value in array.take(pa.array(np.concatenate([left, right]))).to_pylist()]
        return np.array([a == b for a, b in zip(rows[: len(left)], rows[len(left) :], strict=True)], np.bool_)
    one, other = array.take(pa.array(left)), array.take(pa.array(right))
    equal = pc.equal(one, other)
    if pa.types.is_floating(array.type):
        equal = pc.or_(equal, pc.and_(pc.is_nan(one), pc.is_nan(other)))
    found: NDArray[np.bool_] = equal.to_numpy(zero_copy_only=False)
    return found


def _twice(arrays: list[pa.Array]) -> list[pa.Array]:
    # `and_` takes exactly two.
    joined = arrays[0]
    for array in arrays[1:]:
        joined = pc.and_(joined, array)
    return [joined, joined]
