"""How many rows of each class every batch of an epoch gets, so that whole numbers keep to the shares everywhere.

Batch j rounds the running sums of its exact shares down after adding an offset u_j (systematic sampling), so each
class gets its share rounded up or down. With the offsets k/M for k = 0..M-1, each used once in M batches, the counts
of a class add up to exactly its quota (Hermite's identity: the sum of floor(x + k/M) over k is floor(M x)). The k
of batch j is (a j + s) mod M with a near M divided by the golden ratio: neighbours get offsets far apart, and how many
rows of a class came before any batch is a sum of floors that takes O(log M) steps.
"""

import math
from collections.abc import Sequence
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.int64]

_GOLDEN = (math.sqrt(5) - 1) / 2


class BatchCounts:
    """The counts of one epoch: `quotas` rows of each class in batches of `batch_size`; immutable.

    Every full batch has at least `minimum` rows of each class (then the quotas must fill all batches). A last, smaller
    batch gets what is left, which is its shares rounded up or down too.
    """

    def __init__(self, quotas: Sequence[int], batch_size: int, *, minimum: int = 0, key: int = 0) -> None:
        self.quotas = np.array(quotas, np.int64)
        self.num_rows = int(self.quotas.sum())
        self.num_full = self.num_rows // batch_size
        self._minimum = minimum
        slots = batch_size - minimum * len(quotas)
        sums = list(accumulate(int(quota) - minimum * self.num_full for quota in quotas))
        total = max(1, sums[-1])
        # Python's own integers: slots times rows may pass 2**63.
        self._floors = np.array([slots * upto // total for upto in sums], np.int64)
        # Batches whose k reaches this limit round the running sum up.
        self._limits = np.array(
            [-(-self.num_full * (total - slots * upto % total) // total) for upto in sums], np.int64
        )
        self._step = _coprime_step(self.num_full)
        self._shift = key % max(1, self.num_full)

    def before(self, batch: int) -> Counts:
        """Return int64 [num_classes]: the rows of each class in all batches before this one."""
        if batch > self.num_full:
            return self.quotas
        # k >= limit exactly where (k + M - limit) // M is 1: so the number of such batches is a difference of sums.
        shifts = np.concatenate([[self._shift], self._shift + self.num_full - self._limits])
        sums = _floor_sums(batch, self.num_full, self._step, shifts)
        rounded_up = sums[1:] - sums[0]
        before: Counts = np.diff(batch * self._floors + rounded_up, prepend=0) + batch * self._minimum
        return before

    def counts(self, first: int, stop: int) -> Counts:
        """Return int64 [stop - first, num_classes] for batches of this epoch, the smaller last one included."""
        batches = np.arange(first, min(stop, self.num_full), dtype=np.int64)
        offsets = (batches * self._step + self._shift) % max(1, self.num_full)
        sums = self._floors + (offsets[:, None] >= self._limits)
        found = np.diff(sums, axis=1, prepend=0) + self._minimum
        if stop <= self.num_full or first >= stop:
            return found
        return np.concatenate([found, (self.quotas - self.before(self.num_full))[None, :]])


def _coprime_step(num_batches: int) -> int:
    step = max(1, round(num_batches * _GOLDEN))
    while math.gcd(step, num_batches) > 1:
        step += 1
    return step


def _floor_sums(count: int, divisor: int, step: int, shifts: Counts) -> Counts:
    """Return for each shift the sum of (step * j + shift) // divisor over j = 0..count-1, by Euclid's algorithm.

    All at once in 64 bits, which holds for fewer than 2**31 batches.
    """
    total = np.zeros_like(shifts)
    counts, divisors, steps = (np.full_like(shifts, value) for value in (count, max(1, divisor), step))
    while counts.any():
        total += (counts - 1) * counts // 2 * (steps // divisors) + counts * (shifts // divisors)
        steps, shifts = steps % divisors, shifts % divisors
        highest = steps * counts + shifts
        # Count the lattice points under the line along the other axis; where none is left, a line of no points.
        is_over = highest < divisors
        counts, shifts = np.where(is_over, 0, highest // divisors), np.where(is_over, 0, highest % divisors)
        divisors, steps = np.where(is_over, 1, steps), np.where(is_over, 0, divisors)
    return total
