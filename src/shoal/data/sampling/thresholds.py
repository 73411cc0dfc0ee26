"""The rows with the smallest draws, exactly so many of each class, without sorting them or keeping them."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from shoal.data.sampling.draws import Draws

Codes = NDArray[np.int64]
# Counters of the first pass, over all classes together: 32 MiB. More buckets a class leave fewer rows in doubt.
_MAX_COUNTERS = 1 << 22
_MAX_BUCKET_BITS = 16

Drawn = Callable[[], Iterator[tuple[Draws, Codes, NDArray[np.bool_]]]]


class Thresholds:
    """Up to which draw the rows of each class are taken, and how many of those that equal it, the earlier ones first.

    `take` is called once for each block of rows, in storage order: it counts what it gave.
    """

    def __init__(self, limits: Draws, ties: Codes) -> None:
        self._limits = limits
        self._ties = ties.copy()

    def take(self, draws: Draws, codes: Codes, candidates: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return bool [num_rows]: which rows of the next block are taken."""
        limits = self._limits[codes]
        taken = candidates & (draws < limits)
        # Equal draws are rows of equal hash: few, or none at all.
        for place in np.flatnonzero(candidates & (draws == limits)):
            if self._ties[codes[place]] > 0:
                self._ties[codes[place]] -= 1
                taken[place] = True
        return taken


def find_thresholds(drawn: Drawn, wanted: Sequence[int]) -> Thresholds:
    """Find, in two passes over (draws, classes, candidates), the draw that so many candidates of each class reach.

    The first pass counts draws by their leading bits, the second keeps those of the one bucket per class in which
    its border lies.

    Args:
        drawn: starts a pass over all rows.
        wanted: rows of each class, at most as many as there are candidates.
    """
    needed = np.array(wanted, np.int64)
    bits = max(1, min(_MAX_BUCKET_BITS, (_MAX_COUNTERS // max(1, len(needed))).bit_length() - 1))
    shift = np.uint64(64 - bits)
    counts = np.zeros((len(needed), 1 << bits), np.int64)
    for draws, codes, candidates in drawn():
        cells = (codes[candidates] << bits) + (draws[candidates] >> shift).astype(np.int64)
        found, multiples = np.unique(cells, return_counts=True)
        counts.reshape(-1)[found] += multiples
    sums = counts.cumsum(axis=1)
    border = np.minimum((sums < needed[:, None]).sum(axis=1), (1 << bits) - 1)
    rows = np.arange(len(needed))
    missing = needed - (sums[rows, border] - counts[rows, border])
    kept_draws, kept_codes = [np.empty(0, np.uint64)], [np.empty(0, np.int64)]
    for draws, codes, candidates in drawn():
        in_doubt = candidates & ((draws >> shift).astype(np.int64) == border[codes])
        kept_draws.append(draws[in_doubt])
        kept_codes.append(codes[in_doubt])
    return _within_buckets(np.concatenate(kept_draws), np.concatenate(kept_codes), missing)


def _within_buckets(draws: Draws, codes: Codes, missing: Codes) -> Thresholds:
    order = np.lexsort((draws, codes))
    draws, codes = draws[order], codes[order]
    firsts = np.searchsorted(codes, np.arange(len(missing)))
    limits, ties = np.zeros(len(missing), np.uint64), np.zeros(len(missing), np.int64)
    for code in np.flatnonzero(missing > 0):
        first = firsts[code]
        limits[code] = draws[first + missing[code] - 1]
        ties[code] = missing[code] - np.searchsorted(draws[first : first + missing[code]], limits[code])
    return Thresholds(limits, ties)
