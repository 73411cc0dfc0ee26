"""Counts of distinct values in bounded memory, exact to merge: the values with the smallest hashes keep their counts.

Which values are kept depends on the set of all values alone, not on the order in which they came: a value that
belongs to the smallest `LIMIT` hashes of everything has belonged to the smallest of every part. So its count misses
nothing, and the rest is one number. The largest kept hash also estimates how many distinct values there were
(Bar-Yossef et al. 2002, "Counting distinct elements in a data stream").
"""

from collections.abc import Iterable, Mapping

from xxhash import xxh3_64_intdigest

LIMIT = 1_024


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
            ranked = sorted((hash_, name) for name, hash_ in self._hashes.items())
            for _, name in ranked[LIMIT:]:
                self.other += self.counts.pop(name)
                del self._hashes[name]
            # It only ever falls, so what lies beyond it now would be dropped later too: columns of ids stay cheap.
            self._last_kept = ranked[LIMIT - 1]

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
