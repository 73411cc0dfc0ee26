"""Counts of distinct values in bounded memory, exact to merge: the values with the smallest hashes keep their counts.

Which values are kept depends on the set of all values alone, not on the order in which they came: a value that
belongs to the smallest `LIMIT` hashes of everything has belonged to the smallest of every part. So its count misses
nothing, and the rest is one number. The largest kept hash also estimates how many distinct values there were
(Bar-Yossef et al. 2002, "Counting distinct elements in a data stream").
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from xxhash import xxh3_64_intdigest

from shoal.data import compiled
from shoal.data.columns import from_numpy
from shoal.data.hashing import text_hashes
from shoal.data.schema import Column
from shoal.data.statistics.histogram import letter_of
from shoal.data.texts import Texts

LIMIT = 1_024
# More than are kept, for the first rows of a column, of which nothing is known yet.
_ROOM = 4 * LIMIT
_TEXT = Column(name="", dtype="string")


class Categories:
    """Counts per value of text; at most `LIMIT` values by name, the others as one count. Not for several threads."""

    def __init__(self, counts: Mapping[str, int] | None = None, other: int = 0) -> None:
        self.counts: dict[str, int] = {}
        self.other = other
        self._hashes: dict[str, int] = {}
        self._last_kept: tuple[int, str] | None = None
        self.add((counts or {}).items())

    def add(self, counts: Iterable[tuple[str, int]]) -> None:
        """Add how often values were seen; each value may be given once per call or many times."""
        for name, count in counts:
            if name in self.counts:
                self.counts[name] += count
                continue
            # Ties cannot make the order of arrival matter: equal hashes are ordered by name.
            rank = (xxh3_64_intdigest(name.encode()), name)
            if self._last_kept is not None and rank > self._last_kept:
                self.other += count
            else:
                self.counts[name] = count
                self._hashes[name] = rank[0]
        if len(self.counts) > LIMIT:
            self._drop_largest()

    def _drop_largest(self) -> None:
        names = list(self._hashes)
        hashes = np.fromiter(self._hashes.values(), np.uint64, len(names))
        last = np.partition(hashes, LIMIT - 1)[LIMIT - 1]
        # Only equal hashes at the border ask for a look at names: all others are told apart without one.
        ranked = sorted((int(hashes[at]), names[at]) for at in np.flatnonzero(hashes == last))
        num_kept = LIMIT - int(np.count_nonzero(hashes < last))
        dropped = [name for _, name in ranked[num_kept:]] + [names[at] for at in np.flatnonzero(hashes > last)]
        for name in dropped:
            self.other += self.counts.pop(name)
            del self._hashes[name]
        # It only ever falls, so what lies beyond it now would be dropped later too: columns of ids stay cheap.
        self._last_kept = ranked[num_kept - 1]

    def add_texts(self, texts: Texts) -> None:
        """Count texts, but for the rows without a value; the same as one by one.

        Once more than `LIMIT` values were seen, a value costs its hash and no more: columns of ids stay cheap.
        """
        found = _distinct("count_texts", self._bound, texts.offsets, texts.data, _mask(texts.valid))
        num_rows = len(texts.offsets) - 1
        if found is None and _may_be_halved(num_rows):
            for start, stop in ((0, num_rows // 2), (num_rows // 2, num_rows)):
                valid = None if texts.valid is None else texts.valid[start:stop]
                self.add_texts(replace(texts, offsets=texts.offsets[start : stop + 1], valid=valid))
            return
        if found is None:
            self._add_array(texts.to_arrow(_TEXT).drop_null())
            return
        rows = from_numpy(found.rows)
        names = pa.Array.from_buffers(
            pa.string(), len(texts.offsets) - 1, [None, pa.py_buffer(texts.offsets), pa.py_buffer(texts.data)]
        )
        self._add_found(found, names.take(rows).to_pylist())

    def add_wholes(self, values: NDArray[Any], valid: NDArray[np.bool_] | None = None) -> None:
        """Count whole numbers by their decimal text; otherwise as `add_texts`."""
        values = np.ascontiguousarray(values)
        found = _distinct("count_wholes", self._bound, values, letter_of(values.dtype), _mask(valid))
        if found is None and _may_be_halved(len(values)):
            middle = len(values) // 2
            self.add_wholes(values[:middle], None if valid is None else valid[:middle])
            self.add_wholes(values[middle:], None if valid is None else valid[middle:])
            return
        if found is None:
            self._add_array(from_numpy(values if valid is None else values[valid]))
            return
        numbers = found.rows.view(np.uint64) if values.dtype.kind == "u" else found.rows
        self._add_found(found, [str(number) for number in numbers.tolist()])

    @property
    def _bound(self) -> int:
        return 2**64 - 1 if self._last_kept is None else self._last_kept[0]

    def _add_found(self, found: "_Distinct", names: list[str]) -> None:
        self.other += found.beyond
        # Only the `LIMIT` smallest hashes can be kept, and hashing them again is what `add` does with new names.
        if len(names) > LIMIT:
            near = found.hashes <= np.partition(found.hashes, LIMIT - 1)[LIMIT - 1]
            self.other += int(found.counts[~near].sum())
            names, counts = [names[at] for at in np.flatnonzero(near)], found.counts[near]
        else:
            counts = found.counts
        self.add(zip(names, counts.tolist(), strict=True))
        self._keep_bound()

    def _keep_bound(self) -> None:
        if self._last_kept is None and self.other and len(self.counts) == LIMIT:
            self._last_kept = max((hash_, name) for name, hash_ in self._hashes.items())

    def _add_array(self, array: pa.Array) -> None:
        # Of texts or whole numbers without nulls.
        if self._last_kept is not None:
            texts = array.cast(pa.string())
            near = text_hashes(texts) <= np.uint64(self._last_kept[0])
            self.other += len(array) - int(near.sum())
            array = texts.filter(pa.array(near))
        found = array.value_counts()
        names, counts = found.field("values").cast(pa.string()), found.field("counts").to_numpy()
        if len(names) > LIMIT:
            hashes = text_hashes(names)
            # Whatever lies beyond the LIMIT smallest of these lies beyond the LIMIT smallest of all.
            near = hashes <= np.partition(hashes, LIMIT - 1)[LIMIT - 1]
            self.other += int(counts[~near].sum())
            names, counts = names.filter(pa.array(near)), counts[near]
        self.add(zip(names.to_pylist(), counts.tolist(), strict=True))
        self._keep_bound()

    def merge(self, other: "Categories") -> "Categories":
        """Return the counts of both together."""
        merged = Categories(self.counts, self.other + other.other)
        merged.add(other.counts.items())
        return merged

    @property
    def num_distinct(self) -> int:
        """How many different values were seen: exact up to `LIMIT`, an estimate within about 3% beyond."""
        if self.other == 0:
            return len(self.counts)
        return round((LIMIT - 1) * 2**64 / (max(self._hashes.values()) + 1))

    def sorted(self) -> dict[str, int]:
        """Return the named counts, most frequent first, names breaking ties."""
        return dict(sorted(self.counts.items(), key=lambda item: (-item[1], item[0])))


@dataclass(frozen=True, slots=True)
class _Distinct:
    """Distinct values with their hashes and counts, and how many values lie beyond the bound that was given.

    `rows` says where each value was met first; for whole numbers it holds the numbers themselves.
    """

    hashes: NDArray[np.uint64]
    counts: NDArray[np.int64]
    rows: NDArray[np.int64]
    beyond: int


def _may_be_halved(num_rows: int) -> bool:
    # What the first half leaves out bounds the second; and as many rows as there is room for always fit.
    return num_rows > _ROOM and compiled.statistics is not None and compiled.hash_address is not None


def _distinct(loop: str, bound: int, *values: object) -> _Distinct | None:
    # None where no compiler was at hand, and for so many distinct values that the loop has no room for them: that
    # happens to the first rows of a column only, and is found out before most of them were looked at.
    if compiled.statistics is None or compiled.hash_address is None:
        return None
    hashes, counts, rows = np.empty(_ROOM, np.uint64), np.empty(_ROOM, np.int64), np.empty(_ROOM, np.int64)
    num, beyond = getattr(compiled.statistics, loop)(compiled.hash_address, *values, bound, hashes, counts, rows)
    return None if num < 0 else _Distinct(hashes[:num], counts[:num], rows[:num], beyond)


def _mask(valid: NDArray[np.bool_] | None) -> NDArray[np.uint8] | None:
    return None if valid is None else np.ascontiguousarray(valid).view(np.uint8)
