"""Orders that compute many positions at once and hand out few: one block is remembered."""

from abc import ABC, abstractmethod

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int64]

# What a block costs besides its rows no longer counts beyond this; the same as in `order.py`.
BLOCK_ROWS = 16_384


class BlockOrder(ABC):
    """An order computed block by block; any number of threads may ask, and how positions are cut changes nothing."""

    def __init__(self, num_rows: int, block_rows: int = BLOCK_ROWS) -> None:
        self.num_rows = num_rows
        self._block_rows = block_rows
        self._block: tuple[int, int, Rows] = (-1, -1, np.empty(0, np.int64))

    @abstractmethod
    def compute(self, epoch: int, start: int, stop: int) -> Rows:
        """Return the rows at the positions of one block of an epoch; a pure function."""

    def rows(self, epoch: int, start: int, stop: int) -> Rows:
        """Return int64 row numbers at positions start..stop-1 of the epoch; positions past the end are left out."""
        stop = min(stop, self.num_rows)
        pieces = [np.empty(0, np.int64)]
        while start < stop:
            index = start // self._block_rows
            first = index * self._block_rows
            upto = min(stop, first + self._block_rows)
            pieces.append(self._block_of(epoch, index)[start - first : upto - first])
            start = upto
        return pieces[-1] if len(pieces) <= 2 else np.concatenate(pieces)

    def _block_of(self, epoch: int, index: int) -> Rows:
        # One tuple, read once: another thread may replace it, which costs that thread's block and nothing else.
        known_epoch, known_index, rows = self._block
        if (known_epoch, known_index) != (epoch, index):
            first = index * self._block_rows
            rows = self.compute(epoch, first, min(first + self._block_rows, self.num_rows))
            # Batches are views of it: nobody may write into what the next one is cut from.
            rows.flags.writeable = False
            self._block = (epoch, index, rows)
        return rows
