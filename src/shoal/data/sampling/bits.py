"""A subset as one bit per row, with counts that make both ways quick: the k-th row, and how many are before a row."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shoal.base import InputError
from shoal.data.bit_selection import BLOCK_BITS
from shoal.data.native import select_bits
from shoal.data.sampling.derived import Arrays, ArrayWriter, derived_arrays

_BLOCK_WORDS = BLOCK_BITS // 64
# Queries answered at once: their words, 512 bytes each, stay in a core's cache.
_PIECE = 2_048
_Bits = NDArray[np.bool_]
_Rows = NDArray[np.int64]


class RowMask:
    """Bits 0..num_rows-1 in mapped words, and the number of set bits before each block of 4,096; immutable.

    8 bytes per 4,096 rows are touched to find a block, and the block's 512 bytes to find the row. Any number of
    threads may ask.
    """

    def __init__(self, words: NDArray[np.uint64], ranks: _Rows, num_rows: int) -> None:
        self.num_rows = num_rows
        self.count = int(ranks[-1])
        self._words = words
        self._ranks = ranks

    def select(self, positions: _Rows) -> _Rows:
        """Return int64: for each k of `positions` (0 <= k < count) the row whose bit is the k-th that is set.

        Raises:
            InputError: there is no such position.
        """
        if len(positions) and (positions.min() < 0 or positions.max() >= self.count):
            raise InputError(
                f"cannot take rows {positions.min()} to {positions.max()} of {self.count}",
                next_step=f"use row numbers from 0 to {self.count - 1}",
            )
        return select_bits(self._words, self._ranks, np.ascontiguousarray(positions, np.int64))

    def rank(self, rows: _Rows) -> _Rows:
        """Return int64: how many bits are set before each of the rows (0 <= row <= num_rows)."""
        found = self._ranks[rows // BLOCK_BITS].copy()
        for start in range(0, len(rows), _PIECE):
            piece = rows[start : start + _PIECE]
            # A row just past the last block counts nothing inside, so that any block may stand for the missing one.
            blocks = np.minimum(piece // BLOCK_BITS, len(self._ranks) - 2)
            words = self._words.reshape(-1, _BLOCK_WORDS)[blocks]
            inside = piece % BLOCK_BITS
            before = np.arange(_BLOCK_WORDS) < (inside // 64)[:, None]
            part = np.take_along_axis(words, (inside // 64)[:, None], axis=1)[:, 0]
            below = (np.uint64(1) << (inside % 64).astype(np.uint64)) - np.uint64(1)
            full = np.where(before, np.bitwise_count(words), 0).sum(axis=1, dtype=np.int64)
            counted = full + np.bitwise_count(part & below)
            found[start : start + _PIECE] += counted
        return found

    def flags(self, start: int, stop: int) -> _Bits:
        """Return bool [stop - start]: the bits of consecutive rows."""
        data = self._words.view(np.uint8)[start // 8 : -(-stop // 8)]
        bits = np.unpackbits(data, bitorder="little")[start % 8 : start % 8 + stop - start]
        return bits.view(np.bool_)


class MaskWriter:
    """Writes the bits of consecutive rows; memory is one block of bits and 8 bytes per 4,096 rows."""

    def __init__(self, writer: ArrayWriter, name: str = "") -> None:
        self._writer = writer
        self._name = name
        self._rest = np.empty(0, np.bool_)
        self._counts: list[NDArray[np.int64]] = [np.zeros(1, np.int64)]
        self._num_rows = 0

    def add(self, flags: _Bits) -> None:
        """Append one bit per row."""
        self._num_rows += len(flags)
        joined = np.concatenate([self._rest, flags])
        whole = len(joined) // BLOCK_BITS * BLOCK_BITS
        self._store(joined[:whole])
        self._rest = joined[whole:].copy()

    def finish(self) -> None:
        """Write the last block and the counts."""
        is_empty = self._num_rows == 0
        padding = BLOCK_BITS if is_empty else -len(self._rest) % BLOCK_BITS
        self._store(np.concatenate([self._rest, np.zeros(padding, np.bool_)]))
        self._writer.add(f"{self._name}ranks", np.cumsum(np.concatenate(self._counts)).astype("<i8"))
        self._writer.add(f"{self._name}rows", np.array([self._num_rows], "<i8"))

    def _store(self, flags: _Bits) -> None:
        if len(flags):
            words = np.packbits(flags, bitorder="little").view("<u8")
            self._writer.add(f"{self._name}words", words)
            self._counts.append(np.bitwise_count(words).reshape(-1, _BLOCK_WORDS).sum(axis=1, dtype=np.int64))


def mask_in(arrays: Arrays, name: str = "") -> RowMask:
    """Return the mask that a `MaskWriter` of this name has written."""
    return RowMask(arrays[f"{name}words"], arrays[f"{name}ranks"], int(arrays[f"{name}rows"][0]))


def derived_mask(folder: Path, digest: str, build: Callable[[MaskWriter], None]) -> RowMask:
    """Return the mask kept for a digest, building it where it is missing."""

    def write(writer: ArrayWriter) -> None:
        mask = MaskWriter(writer)
        build(mask)
        mask.finish()

    return mask_in(derived_arrays(folder, f"{digest.removeprefix('b3:')}.bits", write))
