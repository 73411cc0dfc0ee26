"""An exact-merging histogram over the bits of float32: 16,384 bins that fit any scale, and a sum without rounding.

A float's bits, flipped so that they sort as the numbers do, are cut to the top 14: sign, exponent and 5 bits of the
fraction. Each bin is about 3% wide relative to its value. Counts and sums are integers, so merging in any order gives
the same bits.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shoal.data import compiled

NUM_BINS = 1 << 14
_DROPPED_BITS = 32 - 14
_SIGN = np.uint32(1 << 31)
# Sums count in units of 2**-149, the smallest float32: every finite float32 is a whole number of them.
_UNIT_EXPONENT = 149
# 2**28 mantissas of 24 bits stay below 2**53, where a float64 sum of integers is still exact.
_EXACT_ROWS = 1 << 28

Numbers = NDArray[Any]


def bins_of(values: Numbers) -> NDArray[np.uint16]:
    """Return uint16 bin numbers of float32 values; NaN must have been taken out before.

    Bins grow with the values: `a <= b` gives `bin(a) <= bin(b)`. -0.0 counts as 0.0.
    """
    bits = (values.astype(np.float32, copy=False) + np.float32(0)).view(np.uint32)
    sortable = np.where(bits & _SIGN, ~bits, bits | _SIGN)
    return (sortable >> np.uint32(_DROPPED_BITS)).astype(np.uint16)


def bin_edges() -> NDArray[np.float64]:
    """Return float64 [NUM_BINS + 1]: bin b holds float32 values from edge b to just below edge b + 1.

    Edges beyond the finite float32 numbers are infinite.
    """
    sortable = np.arange(NUM_BINS, dtype=np.uint32) << np.uint32(_DROPPED_BITS)
    bits = np.where(sortable & _SIGN, sortable & ~_SIGN, ~sortable)
    singles = bits.view(np.float32)
    # The outermost bins hold nothing but infinities, as NaN never gets into a bin.
    outer = np.where(bits & _SIGN, -np.inf, np.inf)
    with np.errstate(invalid="ignore"):
        return np.append(np.where(np.isnan(singles), outer, singles.astype(np.float64)), np.inf)


def count_bins(values: Numbers) -> NDArray[np.uint64]:
    """Return uint64 [NUM_BINS] counts of the values, which hold no NaN."""
    return np.bincount(bins_of(values), minlength=NUM_BINS).astype(np.uint64)


def exact_sum(values: Numbers) -> int:
    """Return the sum of the finite values at float32 precision, in units of 2**-149, without any rounding."""
    total = 0
    singles = values.astype(np.float32, copy=False).reshape(-1)
    for start in range(0, len(singles), _EXACT_ROWS):
        bits = singles[start : start + _EXACT_ROWS].view(np.uint32)
        class_ = bits >> np.uint32(23)
        mantissa = bits & np.uint32((1 << 23) - 1)
        # Sums per sign and exponent share one scale, so they stay whole numbers.
        sums = np.bincount(class_, weights=mantissa, minlength=512)
        counts = np.bincount(class_, minlength=512)
        total += _units((int(index), int(counts[index]), int(sums[index])) for index in np.flatnonzero(counts))
    return total


def _units(classes: Iterable[tuple[int, int, int]]) -> int:
    # Each class is a sign and an exponent, with how many numbers have them and what their fractions add up to.
    total = 0
    for class_, count, mantissas in classes:
        exponent = class_ & 0xFF
        if exponent == 255:
            continue
        hidden = count << 23 if exponent else 0
        signed = (mantissas + hidden) << max(exponent - 1, 0)
        total += -signed if class_ >= 256 else signed
    return total


@dataclass(frozen=True, slots=True)
class Tally:
    """What numbers add to their column: how many, how many NaN, their range, and their exact sum in units.

    Without numbers the range means nothing.
    """

    count: int
    missing: int
    minimum: float
    maximum: float
    sum_units: int


def tally(values: Numbers, valid: NDArray[np.bool_] | None, histogram: NDArray[np.uint64]) -> Tally:
    """Add one-dimensional numbers of any real type to a histogram, in place, but for NaN and rows that are not valid.

    float64 beyond float32 counts as infinite, which is what a histogram over float32 can say of it.
    """
    if values.dtype.char == "e":
        values = values.astype(np.float32)
    if compiled.statistics is None:
        return _tally_slowly(values if valid is None else values[valid], histogram)
    mask = None if valid is None else np.ascontiguousarray(valid).view(np.uint8)
    found = compiled.statistics.count_numbers(np.ascontiguousarray(values), letter_of(values.dtype), mask, histogram)
    count, missing, low, high, classes = found
    return Tally(count, missing, low + 0.0, high + 0.0, _units(classes))


_WHOLE = {("i", 1): "b", ("i", 2): "h", ("i", 4): "i", ("i", 8): "q"}
_WHOLE |= {("u", 1): "B", ("u", 2): "H", ("u", 4): "I", ("u", 8): "Q"}


def letter_of(dtype: np.dtype[Any]) -> str:
    """Return the letter by which the compiled loops know a type of numbers; the half float has none."""
    # By width: two C types of one size have two letters.
    return dtype.char if dtype.kind == "f" else _WHOLE[dtype.kind, dtype.itemsize]


def _tally_slowly(values: Numbers, histogram: NDArray[np.uint64]) -> Tally:
    missing = 0
    if values.dtype.kind == "f" and (unknown := np.isnan(values)).any():
        missing = int(unknown.sum())
        values = values[~unknown]
    if len(values) == 0:
        return Tally(0, missing, 0.0, 0.0, 0)
    with np.errstate(over="ignore"):
        singles = values.astype(np.float32, copy=False)
    histogram += count_bins(singles)
    # Plus zero: of 0.0 and -0.0, either could be found first.
    return Tally(len(values), missing, float(values.min()) + 0.0, float(values.max()) + 0.0, exact_sum(singles))


def count_bytes(values: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return int64 [256]: how often each byte occurs."""
    if compiled.statistics is None:
        return np.bincount(values.reshape(-1), minlength=256)
    counts = np.zeros(256, np.int64)
    compiled.statistics.count_bytes(np.ascontiguousarray(values), counts)
    return counts


def sum_byte_rows(
    rows: NDArray[np.uint8],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return how often each byte occurs, int64 [256], and each row's sum and sum of squares, int64 [num_rows]."""
    num_rows, size = rows.shape
    counts, sums, squares = (np.zeros(length, np.int64) for length in (256, num_rows, num_rows))
    if compiled.statistics is None:
        for start in range(0, num_rows, 512):
            part = rows[start : start + 512].astype(np.int64)
            sums[start : start + 512] = part.sum(axis=1)
            squares[start : start + 512] = (part * part).sum(axis=1)
        return count_bytes(rows), sums, squares
    compiled.statistics.sum_byte_rows(np.ascontiguousarray(rows), size, counts, sums, squares)
    return counts, sums, squares


def sum_as_float(total: int) -> float:
    """Turn a sum in units of 2**-149 into a number, rounded once; infinite where it exceeds a float64."""
    try:
        return total / (1 << _UNIT_EXPONENT)
    except OverflowError:
        return float("inf") if total > 0 else float("-inf")


def quantile(histogram: NDArray[np.uint64], q: float) -> float:
    """Return the value below which a share `q` of the counts lies, linear inside its bin; NaN for no counts."""
    cumulative = np.cumsum(histogram)
    total = int(cumulative[-1])
    if total == 0:
        return float("nan")
    rank = q * total
    index = min(int(np.searchsorted(cumulative, rank, side="left")), NUM_BINS - 1)
    while histogram[index] == 0:
        index += 1
    edges = bin_edges()
    low, high = float(edges[index]), float(edges[index + 1])
    if not (np.isfinite(low) and np.isfinite(high)):
        return low if np.isfinite(low) else high
    before = int(cumulative[index]) - int(histogram[index])
    return low + (high - low) * (rank - before) / int(histogram[index])
