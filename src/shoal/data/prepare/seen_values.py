"""Exact counts of a column's distinct values: what vocabularies and most frequent values are learned from."""

from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shoal.base import InputError

MAX_DISTINCT = 1_000_000


class SeenValues:
    """Counts by value; up to `MAX_DISTINCT` of them, because a vocabulary by count cannot be cut before the end.

    States of the same values are equal in any order of arrival. Not for several threads.
    """

    def __init__(self, counts: Counter[str | int | float] | None = None) -> None:
        self.counts: Counter[str | int | float] = counts if counts is not None else Counter()

    def update(self, values: NDArray[Any]) -> None:
        """Add texts (an object array) or numbers; none of them missing.

        Raises:
            InputError: there are more distinct values than a vocabulary may have.
        """
        if values.dtype == object:
            self.counts.update(values.tolist())
        else:
            # As operators will see them: booleans are 0 and 1, and all whole numbers int64.
            plain = values.astype(np.int64, copy=False) if values.dtype.kind in "biu" else values
            found, counts = np.unique(plain, return_counts=True)
            for value, count in zip(found.tolist(), counts.tolist(), strict=True):
                self.counts[value] += count
        self._check()

    def add_point(self, value: str | float, count: int) -> None:
        """Add one value `count` times."""
        if count:
            self.counts[value] += count

    def merge(self, other: "SeenValues") -> "SeenValues":
        """Return the counts of both sides; neither is changed."""
        merged = SeenValues(self.counts + other.counts)
        merged._check()
        return merged

    def copy(self) -> "SeenValues":
        """Return an independent copy."""
        return SeenValues(self.counts.copy())

    def ranked(self) -> list[tuple[str | int | float, int]]:
        """Return (value, count), most frequent first; the values themselves break ties."""
        return sorted(self.counts.items(), key=lambda item: (-item[1], item[0]))

    def _check(self) -> None:
        # Whether the limit is exceeded depends on the set of all values: no order of parts gets around it.
        if len(self.counts) > MAX_DISTINCT:
            raise InputError(
                f"there are more than {MAX_DISTINCT:,} distinct values, too many for a vocabulary",
                next_step="give whole numbers a HashBucket, which learns nothing, or leave the column out",
            )
