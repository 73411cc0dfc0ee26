"""Shuffle without a list: a keyed permutation of 0..size-1 that computes any stretch of itself in constant memory.

A Feistel network permutes the smallest power of two that holds `size`; results outside are sent through it again
until they fall inside ("cycle walking"; Black and Rogaway 2002, "Ciphers with arbitrary finite domains"). The domain
is less than twice the size, so this takes fewer than two passes on average.
"""

import hashlib

import numpy as np
from numpy.typing import NDArray

from shoal.base import InputError

# Measured by chi-square over thousands of epochs (docs/decisions/0003-shuffle-without-a-list.md): 6 rounds are at the
# edge of even, and in a domain under 64 the orders of 5 or 6 rows are far from equally likely.
_NUM_ROUNDS = 8
_MIN_BITS = 6
_MAX_SIZE = 2**62
# The multipliers of SplitMix64's finaliser (Steele, Lea and Flood 2014).
_FIRST, _SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


class Permutation:
    """A bijection of 0..size-1, fixed by (size, seed, epoch) on every machine; immutable, for any number of threads."""

    def __init__(self, size: int, *, seed: int, epoch: int) -> None:
        if not 0 <= size <= _MAX_SIZE:
            raise InputError(
                f"cannot shuffle {size} rows: expected 0 to {_MAX_SIZE}", next_step="split the dataset first"
            )
        self.size = size
        num_bits = max(_MIN_BITS, (size - 1).bit_length())
        self._left_bits = num_bits // 2
        self._right_bits = num_bits - self._left_bits
        key = hashlib.blake2b(f"{seed}/{epoch}".encode(), digest_size=8 * _NUM_ROUNDS).digest()
        self._keys = np.frombuffer(key, "<u8").astype(np.uint64)

    def __getitem__(self, positions: slice) -> NDArray[np.int64]:
        """Return int64: where the positions of a plain slice (no step, clipped to the size) are sent."""
        start, stop, step = positions.indices(self.size)
        if step != 1:
            raise InputError(f"cannot take every {step}th position", next_step="take a stretch and slice the result")
        if self._left_bits + self._right_bits == _MIN_BITS:
            # Few rows in a much larger domain: leaving out the others takes one pass, walking would take dozens.
            images = self._pass(np.arange(1 << _MIN_BITS, dtype=np.uint64))
            return images[images < self.size][start:stop].view(np.int64)
        images = self._pass(np.arange(start, max(start, stop), dtype=np.uint64))
        while len(outside := np.flatnonzero(images >= self.size)):
            images[outside] = self._pass(images[outside])
        return images.view(np.int64)

    def _pass(self, values: NDArray[np.uint64]) -> NDArray[np.uint64]:
        right_bits = np.uint64(self._right_bits)
        left, right = values >> right_bits, values & np.uint64((1 << self._right_bits) - 1)
        scratch, shifted = np.empty_like(values), np.empty_like(values)
        for index, key in enumerate(self._keys):
            # The halves take turns instead of swapping places: they differ in width when the bits are odd in number.
            source, target, num_bits = (left, right, self._right_bits) if index % 2 else (right, left, self._left_bits)
            np.bitwise_xor(source, key, out=scratch)
            np.multiply(scratch, _FIRST, out=scratch)
            np.right_shift(scratch, np.uint64(32), out=shifted)
            np.bitwise_xor(scratch, shifted, out=scratch)
            np.multiply(scratch, _SECOND, out=scratch)
            # A product's high bits depend on all bits of its factors, the low ones do not.
            np.right_shift(scratch, np.uint64(64 - num_bits), out=scratch)
            np.bitwise_xor(target, scratch, out=target)
        return (left << right_bits) | right
