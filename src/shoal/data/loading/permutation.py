"""Shuffle without a list: a keyed permutation of 0..size-1 that computes any stretch of itself in constant memory.

A Feistel network permutes the smallest power of two that holds `size`; results outside are sent through it again
until they fall inside ("cycle walking"; Black and Rogaway 2002, "Ciphers with arbitrary finite domains"). The domain
is less than twice the size, so this takes fewer than two passes on average.
"""

import hashlib

import numpy as np
from numpy.typing import NDArray

from shoal.base import InputError
from shoal.data.native import permute

# Measured by chi-square over thousands of epochs (docs/decisions/0003-shuffle-without-a-list.md): 6 rounds are at the
# edge of even, and in a domain under 64 the orders of 5 or 6 rows are far from equally likely.
_NUM_ROUNDS = 8
_MIN_BITS = 6
_MAX_SIZE = 2**62


class Permutation:
    """A bijection of 0..size-1, fixed by (size, seed, epoch) on every machine; immutable, for any number of threads.

    `stream` sets apart several permutations of one epoch.
    """

    def __init__(self, size: int, *, seed: int, epoch: int, stream: str = "") -> None:
        if not 0 <= size <= _MAX_SIZE:
            raise InputError(
                f"cannot shuffle {size} rows: expected 0 to {_MAX_SIZE}", next_step="split the dataset first"
            )
        self.size = size
        num_bits = max(_MIN_BITS, (size - 1).bit_length())
        self._left_bits = num_bits // 2
        self._right_bits = num_bits - self._left_bits
        key = hashlib.blake2b(f"{seed}/{epoch}{stream}".encode(), digest_size=8 * _NUM_ROUNDS).digest()
        self._keys = np.frombuffer(key, "<u8").astype(np.uint64)

    def __getitem__(self, positions: slice) -> NDArray[np.int64]:
        """Return int64: where the positions of a plain slice (no step, clipped to the size) are sent."""
        start, stop, step = positions.indices(self.size)
        if step != 1:
            raise InputError(f"cannot take every {step}th position", next_step="take a stretch and slice the result")
        halves = (self._left_bits, self._right_bits)
        if sum(halves) == _MIN_BITS:
            # Few rows in a much larger domain: leaving out the others takes one pass, walking would take dozens.
            images = np.empty(1 << _MIN_BITS, np.int64)
            permute(0, len(images), halves, self._keys, images)
            return images[images < self.size][start:stop]
        images = np.empty(max(0, stop - start), np.int64)
        permute(start, self.size, halves, self._keys, images)
        return images
