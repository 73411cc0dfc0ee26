"""An exact-merging histogram over the bits of float32: 16,384 bins that fit any scale, and a sum without rounding.

A float's bits, flipped so that they sort as the numbers do, are cut to the top 14: sign, exponent and 5 bits of the
fraction. Each bin is about 3% wide relative to its value. Counts and sums are integers, so merging in any order gives
the same bits.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

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
        exponents = np.arange(512) & 0xFF
        # Sums per sign and exponent share one scale, so they stay whole numbers.
        sums = np.bincount(class_, weights=mantissa, minlength=512)
        counts = np.bincount(class_, minlength=512)
        for index in np.flatnonzero(counts):
            exponent = int(exponents[index])
            if exponent == 255:
                continue
            hidden = int(counts[index]) << 23 if exponent else 0
            signed = (int(sums[index]) + hidden) << max(exponent - 1, 0)
            total += -signed if index >= 256 else signed
    return total


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
