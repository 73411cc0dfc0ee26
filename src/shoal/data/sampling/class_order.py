"""Orders in which each batch holds certain numbers of rows of each class: the common part of several."""

from abc import abstractmethod
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from shoal.data.loading.permutation import Permutation
from shoal.data.sampling.batch_counts import BatchCounts
from shoal.data.sampling.draws import draws_at, key_of
from shoal.data.sampling.in_blocks import BLOCK_ROWS, BlockOrder, Rows

_SPREAD = np.float64(1 << 32)


class ClassOrder(BlockOrder):
    """A sequence in which batch after batch has its counts of each class, spread evenly over the batch.

    Class c has `sizes[c]` rows, of which an epoch takes `quotas[c]`: pass after pass over the class, each shuffled
    anew (or in storage order), and the next epoch goes on where this one stopped. So no row comes for the n-th time
    before each of its class has come n - 1 times. Any stretch is computed at once.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        quotas: Sequence[int],
        batch_size: int,
        *,
        seed: int,
        minimum: int = 0,
        shuffle: bool = True,
    ) -> None:
        super().__init__(sum(quotas), -(-BLOCK_ROWS // batch_size) * batch_size)
        self._sizes = sizes
        self._quotas = quotas
        self._batch_size = batch_size
        self._seed = seed
        self._minimum = minimum
        self._shuffle = shuffle
        self._known_plan: tuple[int, BatchCounts | None] = (-1, None)

    @abstractmethod
    def class_rows(self, codes: Rows, places: Rows) -> Rows:
        """Return int64: for each (class, number of a row within its class) the row's number; a pure function."""

    def compute(self, epoch: int, start: int, stop: int) -> Rows:
        """Return the rows of some whole batches of an epoch."""
        key = key_of("batches", self._seed, epoch)
        plan = self._plan(epoch, key)
        first = start // self._batch_size
        counts = plan.counts(first, -(-stop // self._batch_size))
        before = plan.before(first)
        # Rows of one class that follow each other are taken together, whatever batches they end up in.
        drawn = counts.sum(axis=0)
        ends = np.cumsum(drawn)
        places = [
            self._places(epoch, code, int(before[code]), int(drawn[code])) for code in np.flatnonzero(drawn).tolist()
        ]
        by_class = self.class_rows(np.repeat(np.arange(len(drawn)), drawn), np.concatenate(places))
        earlier = np.cumsum(counts, axis=0) - counts + (ends - drawn)
        flat = counts.reshape(-1)
        inside = np.arange(len(by_class)) - np.repeat(np.cumsum(flat) - flat, flat)
        rows = by_class[np.repeat(earlier.reshape(-1), flat) + inside]
        return rows[_spread(counts, inside, key, start)]

    def _plan(self, epoch: int, key: int) -> BatchCounts:
        # Remembered as blocks are: with many classes it takes longer than a block.
        known_epoch, plan = self._known_plan
        if plan is None or known_epoch != epoch:
            plan = BatchCounts(self._quotas, self._batch_size, minimum=self._minimum, key=key)
            self._known_plan = (epoch, plan)
        return plan

    def _places(self, epoch: int, code: int, before: int, count: int) -> Rows:
        """Return which rows of a class its draws number `before` and following of this epoch are."""
        size, draw = self._sizes[code], epoch * self._quotas[code] + before
        pieces, last = [], draw + count
        while draw < last:
            number, position = divmod(draw, size)
            upto = min(size, position + last - draw)
            if self._shuffle:
                pieces.append(Permutation(size, seed=key_of("class", self._seed, code), epoch=number)[position:upto])
            else:
                pieces.append(np.arange(position, upto))
            draw += upto - position
        return np.concatenate(pieces)


def _spread(counts: NDArray[np.int64], inside: Rows, key: int, first: int) -> Rows:
    """Return the order in which rows that stand by batch and class are spread over their batches.

    The i-th of n rows of a class falls somewhere into the i-th n-th part of its batch.
    """
    flat = counts.reshape(-1)
    chance = (draws_at(key, first + np.arange(len(inside))) >> np.uint64(32)).astype(np.float64) / _SPREAD
    share = (inside + chance) / np.repeat(flat, flat)
    # As integers: a sum of batch number and share would round the last row of a batch into the next one.
    batch = np.repeat(np.arange(len(counts)), counts.sum(axis=1))
    return np.argsort((batch << 32) + np.minimum(share * _SPREAD, _SPREAD - 1).astype(np.int64), kind="stable")
