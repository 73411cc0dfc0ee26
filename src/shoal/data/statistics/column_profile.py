"""What is known of one column: counts, range, histogram, categories; adding up is exact and in any order."""

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from shoal.base import SchemaError
from shoal.data.schema import Column
from shoal.data.statistics.categories import Categories
from shoal.data.statistics.histogram import NUM_BINS, Numbers, bins_of, count_bytes, quantile, sum_as_float, tally
from shoal.data.texts import texts_of

Kind = Literal["number", "category"]
_UNIT_SHIFT = 149
_TEXT = Column(name="", dtype="string")
_INFINITE_BINS = bins_of(np.array([-np.inf, np.inf], np.float32))


def _empty_histogram() -> NDArray[np.uint64]:
    return np.zeros(NUM_BINS, np.uint64)


@dataclass(slots=True)
class ColumnProfile:
    """The statistics of a column's values; not for several threads while it grows.

    `count` values were seen and `nulls` were missing (NaN counts as missing). For tensors every number is a value:
    `values_per_row` of them, so `num_rows` counts the independent ones. Numbers count at float32 precision. Whole
    numbers that are not tensors have categories as well as a histogram.
    """

    name: str
    kind: Kind
    values_per_row: int = 1
    count: int = 0
    nulls: int = 0
    minimum: float | None = None
    maximum: float | None = None
    histogram: NDArray[np.uint64] = field(default_factory=_empty_histogram)
    sum_units: int = 0
    kept: Categories = field(default_factory=Categories)

    @property
    def num_rows(self) -> int:
        """Rows that had a value."""
        return self.count // self.values_per_row

    @property
    def mean(self) -> float:
        """The mean of the finite values, rounded once; NaN when there is none."""
        finite = self.count - int(self.histogram[_INFINITE_BINS].sum())
        return sum_as_float(self.sum_units) / finite if finite else float("nan")

    @property
    def categories(self) -> dict[str, int]:
        """Counts by value, most frequent first; at most 1,024 values, see `other` for the rest."""
        return self.kept.sorted()

    @property
    def other(self) -> int:
        """How many values are counted but not named in `categories`."""
        return self.kept.other

    @property
    def num_distinct(self) -> int:
        """Different values among the categories: exact up to 1,024, then an estimate within about 3%."""
        return self.kept.num_distinct

    def quantile(self, q: float) -> float:
        """Return the value below which a share `q` of the numbers lies, within 3% of it; NaN when there are none."""
        found = quantile(self.histogram, q)
        if self.minimum is None or self.maximum is None:
            return found
        return min(max(found, self.minimum), self.maximum)

    def add_numbers(self, values: Numbers, nulls: int = 0, valid: NDArray[np.bool_] | None = None) -> None:
        """Count numbers of any real type; NaN is counted as null, and so are the rows that are not `valid`.

        Nulls that are not among the values come as a number of their own.
        """
        flat = values.reshape(-1)
        self.nulls += nulls
        if flat.dtype.kind in "iu" and flat.dtype.itemsize == 1:
            self.nulls += 0 if valid is None else len(flat) - int(valid.sum())
            present = flat if valid is None else flat[valid]
            self.add_bytes(count_bytes(np.ascontiguousarray(present).view(np.uint8)), flat.dtype)
            return
        found = tally(flat, valid, self.histogram)
        self.nulls += len(flat) - found.count
        self.count += found.count
        self.sum_units += found.sum_units
        if found.count:
            self._widen(found.minimum, found.maximum)

    def add_bytes(self, counts: NDArray[np.int64], dtype: np.dtype[Any]) -> None:
        """Count numbers of one byte each, of which `counts` [256] says how often each came."""
        # 256 counts stand for any number of pixels: ten times faster than binning each.
        present = np.flatnonzero(counts)
        if len(present) == 0:
            return
        values = present.astype(np.uint8).view(dtype).astype(np.int64)
        counted = counts[present]
        np.add.at(self.histogram, bins_of(values.astype(np.float32)), counted.astype(np.uint64))
        self.count += int(counted.sum())
        self.sum_units += int((values * counted).sum()) << _UNIT_SHIFT
        self._widen(float(values.min()), float(values.max()))

    def add_categories(self, values: Numbers, valid: NDArray[np.bool_] | None = None) -> None:
        """Count distinct whole numbers, truths or texts by their text, beside `add_numbers` or alone.

        Only whole numbers may come with rows that are not `valid`.
        """
        if values.dtype.kind in "iu":
            self.kept.add_wholes(values, valid)
        elif values.dtype.kind == "b":
            num_true = int(np.count_nonzero(values))
            counted = {"True": num_true, "False": len(values) - num_true}
            self.kept.add((name, count) for name, count in counted.items() if count)
        else:
            self.kept.add_texts(texts_of(pa.array([str(value) for value in values.tolist()], pa.string()), _TEXT))

    def add_texts(self, values: Numbers, nulls: int = 0) -> None:
        """Count values of a column that has categories only."""
        self.nulls += nulls
        self.count += len(values)
        self.add_categories(values)

    def add_text_array(self, array: pa.Array) -> None:
        """Count the values of an Arrow string array, and its nulls."""
        self.nulls += array.null_count
        self.count += len(array) - array.null_count
        self.kept.add_texts(texts_of(array, _TEXT))

    def _widen(self, low: float, high: float) -> None:
        self.minimum = low if self.minimum is None else min(self.minimum, low)
        self.maximum = high if self.maximum is None else max(self.maximum, high)

    def merge(self, other: "ColumnProfile") -> "ColumnProfile":
        """Return the profile of both columns' values together.

        Raises:
            SchemaError: they are not the same kind of column.
        """
        if (self.name, self.kind, self.values_per_row) != (other.name, other.kind, other.values_per_row):
            raise SchemaError(
                f"cannot merge profiles of {self.name!r} ({self.kind}, {self.values_per_row} per row) and of "
                f"{other.name!r} ({other.kind}, {other.values_per_row} per row)",
                next_step="profile both sides from columns of the same type and shape",
            )
        merged = ColumnProfile(
            name=self.name,
            kind=self.kind,
            values_per_row=self.values_per_row,
            count=self.count + other.count,
            nulls=self.nulls + other.nulls,
            minimum=self.minimum,
            maximum=self.maximum,
            histogram=self.histogram + other.histogram,
            sum_units=self.sum_units + other.sum_units,
            kept=self.kept.merge(other.kept),
        )
        if other.minimum is not None and other.maximum is not None:
            merged._widen(other.minimum, other.maximum)
        return merged
