"""Everything that operators learn of numbers in one pass: exact moments and extremes in 16,384 bins of float32's bits.

A bin of `data/statistics/histogram.py` fixes sign, exponent and the 5 leading bits of the fraction; the other 18 bits
of each value, and their squares, are summed as whole numbers. So mean and deviation are exact until one last rounding,
states merge to the same bits in any order, and adding a value many times, or clipping at the extremes of bins, can be
computed afterwards as if the data had been read again.
"""

import math
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shoal.data.statistics.histogram import NUM_BINS, bins_of

_REST_BITS = 18
_REST = np.uint32((1 << _REST_BITS) - 1)
# Squares of rests stay below 2**36: so many of them add up below 2**53, where a float64 is still exact.
_EXACT_ROWS = 1 << 17
_LIMB_BITS = 40
_LIMB = np.int64((1 << _LIMB_BITS) - 1)
_UNIT_BITS = 149
_LOWEST, _HIGHEST = bins_of(np.array([-np.inf, np.inf], np.float32)).tolist()


def _counts() -> NDArray[np.int64]:
    return np.zeros(NUM_BINS, np.int64)


@dataclass(slots=True, eq=False)
class SeenNumbers:
    """The distribution of numbers at float32 precision; NaN must have been taken out. Not for several threads.

    Attributes:
        counts: values per bin.
        lows: the smallest value of each bin; infinite where there is none.
        highs: the largest.
        rests: sums of the 18 low bits of the values in each bin.
        squares: sums of the squares of these, as two limbs of 40 bits and more.
    """

    counts: NDArray[np.int64] = field(default_factory=_counts)
    lows: NDArray[np.float32] = field(default_factory=lambda: np.full(NUM_BINS, np.inf, np.float32))
    highs: NDArray[np.float32] = field(default_factory=lambda: np.full(NUM_BINS, -np.inf, np.float32))
    rests: NDArray[np.int64] = field(default_factory=_counts)
    squares: tuple[NDArray[np.int64], NDArray[np.int64]] = field(default_factory=lambda: (_counts(), _counts()))

    def update(self, values: NDArray[Any]) -> None:
        """Add numbers of any real type and shape."""
        with np.errstate(over="ignore"):
            # Adding zero gives both zeros one bin and one bit pattern.
            flat = values.reshape(-1).astype(np.float32, copy=False) + np.float32(0)
        for start in range(0, len(flat), _EXACT_ROWS):
            self._add(flat[start : start + _EXACT_ROWS])

    def _add(self, part: NDArray[np.float32]) -> None:
        bins = bins_of(part)
        rests = (part.view(np.uint32) & _REST).astype(np.float64)
        self.counts += np.bincount(bins, minlength=NUM_BINS)
        self.rests += np.bincount(bins, rests, NUM_BINS).astype(np.int64)
        self._add_squares(np.bincount(bins, rests * rests, NUM_BINS).astype(np.int64))
        np.minimum.at(self.lows, bins, part)
        np.maximum.at(self.highs, bins, part)

    def _add_squares(self, sums: NDArray[np.int64]) -> None:
        high, low = self.squares
        low += sums
        high += low >> _LIMB_BITS
        low &= _LIMB

    def add_point(self, value: float, count: int) -> None:
        """Add one finite value `count` times."""
        if count == 0:
            return
        point = np.array([value], np.float32) + np.float32(0)
        index = int(bins_of(point)[0])
        rest = int(point.view(np.uint32)[0] & _REST)
        self.counts[index] += count
        self.rests[index] += rest * count
        high, low = self.squares
        total = (int(high[index]) << _LIMB_BITS) + int(low[index]) + rest * rest * count
        high[index], low[index] = total >> _LIMB_BITS, total & int(_LIMB)
        self.lows[index] = min(self.lows[index], point[0])
        self.highs[index] = max(self.highs[index], point[0])

    def merge(self, other: "SeenNumbers") -> "SeenNumbers":
        """Return the distribution of both sides' values; neither is changed."""
        high, low = (mine + theirs for mine, theirs in zip(self.squares, other.squares, strict=True))
        return SeenNumbers(
            self.counts + other.counts,
            np.minimum(self.lows, other.lows),
            np.maximum(self.highs, other.highs),
            self.rests + other.rests,
            # In canonical form, so that equal distributions are equal arrays.
            (high + (low >> _LIMB_BITS), low & _LIMB),
        )

    def copy(self) -> "SeenNumbers":
        """Return an independent copy."""
        return self.merge(SeenNumbers())

    def clipped(self, lower: float | None, upper: float | None) -> "SeenNumbers":
        """Return the distribution after clipping at bounds that came from `low_at` and `high_at`: exact for these."""
        below = self.highs < np.float32(-np.inf if lower is None else lower)
        above = self.lows > np.float32(np.inf if upper is None else upper)
        # An empty bin has extremes that lie outside of any bounds; it holds nothing to move.
        below &= self.counts > 0
        above &= self.counts > 0
        kept = SeenNumbers()
        inside = ~(below | above)
        kept.counts, kept.rests = self.counts * inside, self.rests * inside
        kept.squares = (self.squares[0] * inside, self.squares[1] * inside)
        kept.lows = np.where(inside, self.lows, np.float32(np.inf))
        kept.highs = np.where(inside, self.highs, np.float32(-np.inf))
        if lower is not None:
            kept.add_point(lower, int(self.counts[below].sum()))
        if upper is not None:
            kept.add_point(upper, int(self.counts[above].sum()))
        return kept

    @property
    def count(self) -> int:
        """How many values were seen, infinite ones included."""
        return int(self.counts.sum())

    @property
    def low(self) -> float:
        """The smallest finite value; infinity when there is none."""
        return float(self.lows[_LOWEST + 1 : _HIGHEST].min())

    @property
    def high(self) -> float:
        """The largest finite value; minus infinity when there is none."""
        return float(self.highs[_LOWEST + 1 : _HIGHEST].max())

    def mean_and_std(self) -> tuple[float, float]:
        """Return mean and standard deviation (of the population) of the finite values, each rounded once from exact."""
        count, total, total_square = 0, 0, 0
        for index in np.flatnonzero(self.counts).tolist():
            if _LOWEST < index < _HIGHEST:
                number, plain, square = self._moments(index)
                count, total, total_square = count + number, total + plain, total_square + square
        if count == 0:
            return math.nan, math.nan
        variance = Fraction(count * total_square - total * total, (count * count) << (2 * _UNIT_BITS))
        return float(Fraction(total, count << _UNIT_BITS)), math.sqrt(variance)

    def _moments(self, index: int) -> tuple[int, int, int]:
        """Return count, sum in units of 2**-149 and sum of squares in units of 2**-298 of a bin."""
        is_positive = index >= NUM_BINS // 2
        bits = index - NUM_BINS // 2 if is_positive else NUM_BINS // 2 - 1 - index
        exponent, fraction = bits >> 5, bits & 31
        base = ((32 if exponent else 0) + fraction) << _REST_BITS
        shift = max(exponent - 1, 0)
        count, rest = int(self.counts[index]), int(self.rests[index])
        rest_square = (int(self.squares[0][index]) << _LIMB_BITS) + int(self.squares[1][index])
        plain = (count * base + rest) << shift
        square = (count * base * base + 2 * base * rest + rest_square) << (2 * shift)
        return count, plain if is_positive else -plain, square

    def quantile(self, q: float) -> float:
        """Return the value below which a share `q` lies: between the extremes of its bin, so within 3%.

        Where a bin holds one value (every whole number up to 64, say) this is exact.
        """
        index, share = self._bin_at(q)
        low, high = float(self.lows[index]), float(self.highs[index])
        return low if low == high else low + (high - low) * share

    def low_at(self, q: float) -> float:
        """Return a value of the data at or below the quantile `q`, within 3% of it."""
        return float(self.lows[self._bin_at(q)[0]])

    def high_at(self, q: float) -> float:
        """Return a value of the data at or above the quantile `q`, within 3% of it."""
        return float(self.highs[self._bin_at(q)[0]])

    def _bin_at(self, q: float) -> tuple[int, float]:
        cumulative = np.cumsum(self.counts)
        # A whole number of values out of an exact product: floats would put a quantile of a part elsewhere by rounding.
        rank = max(1, math.ceil(Fraction(str(q)) * int(cumulative[-1])))
        index = int(np.searchsorted(cumulative, rank, side="left"))
        before = int(cumulative[index]) - int(self.counts[index])
        return index, (rank - before) / int(self.counts[index])
