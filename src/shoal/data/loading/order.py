"""In which order an epoch visits the rows: position in, row number out, for any stretch of the epoch at once."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from shoal.base import InputError
from shoal.data.loading.permutation import Permutation

# 16,384: the permutation's cost per row no longer falls beyond this, and its scratch arrays still fit a core's cache.
_BLOCK_ROWS = 16_384


class Order(Protocol):
    """What a loader asks for its row numbers: a pure function of epoch and position, for any number of threads.

    An order that wants its kind to be part of a loader's state, so that a state of another order is refused, also has
    `identity`: text, or other plain JSON.
    """

    @property
    def num_rows(self) -> int:
        """How many positions an epoch has, the same in every epoch."""
        ...

    def rows(self, epoch: int, start: int, stop: int) -> NDArray[np.int64]:
        """Return int64 row numbers at positions start..stop-1; positions past the end are left out."""
        ...


class EpochOrder:
    """All rows once an epoch: the keyed permutation of (num_rows, seed, epoch), or storage order.

    Remembers one block of 16,384 positions, so that small batches do not pay for short vectors. Any number of threads
    may ask at once.
    """

    def __init__(self, num_rows: int, *, seed: int, shuffle: bool, stream: str = "") -> None:
        self.num_rows = num_rows
        self._stream = stream
        self.identity = "shuffled" if shuffle else "stored"
        self._seed = seed
        self._shuffle = shuffle
        self._block: tuple[int, int, NDArray[np.int64]] = (-1, -1, np.empty(0, np.int64))

    def rows(self, epoch: int, start: int, stop: int) -> NDArray[np.int64]:
        """Return int64 row numbers at positions start..stop-1 of the epoch; positions past the end are left out."""
        stop = min(stop, self.num_rows)
        if not self._shuffle:
            return np.arange(start, max(start, stop), dtype=np.int64)
        index = start // _BLOCK_ROWS
        first = index * _BLOCK_ROWS
        if stop <= first + _BLOCK_ROWS:
            return self._block_of(epoch, index)[start - first : max(start, stop) - first]
        pieces = [self.rows(epoch, start, first + _BLOCK_ROWS)]
        begins = range(first + _BLOCK_ROWS, stop, _BLOCK_ROWS)
        return np.concatenate([*pieces, *(self.rows(epoch, begin, min(stop, begin + _BLOCK_ROWS)) for begin in begins)])

    def _block_of(self, epoch: int, index: int) -> NDArray[np.int64]:
        # One tuple, read once: another thread may replace it, which costs that thread's block and nothing else.
        known_epoch, known_index, rows = self._block
        if (known_epoch, known_index) != (epoch, index):
            permutation = Permutation(self.num_rows, seed=self._seed, epoch=epoch, stream=self._stream)
            rows = permutation[index * _BLOCK_ROWS : (index + 1) * _BLOCK_ROWS]
            # A caller who writes into a view of this would change the rows of a later batch.
            rows.flags.writeable = False
            self._block = (epoch, index, rows)
        return rows


class WindowOrder:
    """All rows once an epoch, but only `window` shards at a time: for data that is not all on this machine.

    Each epoch the shards are shuffled and cut into groups of `window`, and the rows of a group are shuffled among
    themselves. With as many shards as there are this mixes like `EpochOrder`, though in another order. Memory is a few
    integers per shard; any number of threads may ask at once.
    """

    def __init__(self, shard_rows: Sequence[int], window: int, *, seed: int) -> None:
        """Cut the rows into windows.

        Args:
            shard_rows: how many rows each shard has, in storage order.
            window: how many shards are mixed at a time, >= 1.
            seed: any whole number.

        Raises:
            InputError: the window holds no shard.
        """
        if window < 1:
            raise InputError(f"window={window} must be >= 1", next_step="give the number of shards to mix, such as 8")
        lengths = np.array(shard_rows, np.int64)
        self._lengths = lengths[lengths > 0]
        self._firsts = np.cumsum(self._lengths) - self._lengths
        self.num_rows = int(self._lengths.sum())
        self.identity = f"window of {window} over {len(self._lengths)} shards"
        self._numbers = np.flatnonzero(lengths > 0)
        self.window = window
        self._window = window
        self._seed = seed
        self._epoch: tuple[int, NDArray[np.int64], NDArray[np.int64]] | None = None
        self._group: tuple[int, int, EpochOrder] | None = None

    def rows(self, epoch: int, start: int, stop: int) -> NDArray[np.int64]:
        """Return int64 row numbers at positions start..stop-1 of the epoch; positions past the end are left out."""
        stop = min(stop, self.num_rows)
        shards, borders = self._shards_of(epoch)
        pieces = [np.empty(0, np.int64)]
        while start < stop:
            group = int(np.searchsorted(borders, start, side="right")) - 1
            upto = min(stop, int(borders[group + 1]))
            local = self._order_of(epoch, group, int(borders[group + 1] - borders[group])).rows(
                0, start - int(borders[group]), upto - int(borders[group])
            )
            members = shards[group * self._window : (group + 1) * self._window]
            stops = np.cumsum(self._lengths[members])
            member = np.searchsorted(stops, local, side="right")
            pieces.append(local - (stops - self._lengths[members] - self._firsts[members])[member])
            start = upto
        return np.concatenate(pieces)

    def shards(self, epoch: int) -> list[int]:
        """Return the numbers of the shards, in storage order, in the order in which the epoch reads them."""
        return [int(number) for number in self._numbers[self._shards_of(epoch)[0]]]

    def _shards_of(self, epoch: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        # As in EpochOrder: one tuple, read once, replaced whole.
        if (known := self._epoch) is None or known[0] != epoch:
            shards = Permutation(len(self._lengths), seed=self._seed, epoch=epoch, stream="/shards")[:]
            stops = np.cumsum(self._lengths[shards])
            borders = np.concatenate([[0], stops[self._window - 1 : -1 : self._window], stops[-1:]])
            self._epoch = known = (epoch, shards, borders)
        return known[1], known[2]

    def _order_of(self, epoch: int, group: int, num_rows: int) -> EpochOrder:
        if (known := self._group) is None or known[:2] != (epoch, group):
            order = EpochOrder(num_rows, seed=self._seed, shuffle=True, stream=f"/{epoch}/{group}")
            self._group = known = (epoch, group, order)
        return known[2]
