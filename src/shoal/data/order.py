"""In which order an epoch visits the rows: position in, row number out, for any stretch of the epoch at once."""

import numpy as np
from numpy.typing import NDArray

from shoal.data.permutation import Permutation

# 16,384: the permutation's cost per row no longer falls beyond this, and its scratch arrays still fit a core's cache.
_BLOCK_ROWS = 16_384


class EpochOrder:
    """The order of every epoch, fixed by (num_rows, seed, epoch); storage order when not shuffled.

    Remembers one block of 16,384 positions, so that small batches do not pay for short vectors. Any number of threads
    may ask at once.
    """

    def __init__(self, num_rows: int, *, seed: int, shuffle: bool) -> None:
        self._num_rows = num_rows
        self._seed = seed
        self._shuffle = shuffle
        self._block: tuple[int, int, NDArray[np.int64]] = (-1, -1, np.empty(0, np.int64))

    def rows(self, epoch: int, start: int, stop: int) -> NDArray[np.int64]:
        """Return int64 row numbers at positions start..stop-1 of the epoch; positions past the end are left out."""
        stop = min(stop, self._num_rows)
        if not self._shuffle:
            return np.arange(start, max(start, stop), dtype=np.int64)
        pieces = []
        while start < stop:
            index = start // _BLOCK_ROWS
            first = index * _BLOCK_ROWS
            upto = min(stop, first + _BLOCK_ROWS)
            pieces.append(self._block_of(epoch, index)[start - first : upto - first])
            start = upto
        return pieces[0] if len(pieces) == 1 else np.concatenate([*pieces, np.empty(0, np.int64)])

    def _block_of(self, epoch: int, index: int) -> NDArray[np.int64]:
        # One tuple, read once: another thread may replace it, which costs that thread's block and nothing else.
        known_epoch, known_index, rows = self._block
        if (known_epoch, known_index) != (epoch, index):
            permutation = Permutation(self._num_rows, seed=self._seed, epoch=epoch)
            rows = permutation[index * _BLOCK_ROWS : (index + 1) * _BLOCK_ROWS]
            self._block = (epoch, index, rows)
        return rows
