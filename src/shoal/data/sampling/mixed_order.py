"""In which order a mixture takes rows of its datasets: in steady shares batch by batch, or scattered over an epoch."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from shoal.data.loading.order import EpochOrder
from shoal.data.sampling.class_order import ClassOrder
from shoal.data.sampling.draws import key_of

Rows = NDArray[np.int64]


class SteadyMix(ClassOrder):
    """Each batch has the datasets' shares, rounded up or down; each dataset runs through its own epochs."""

    def __init__(
        self, sizes: Sequence[int], quotas: Sequence[int], batch_size: int, *, seed: int, shuffle: bool = True
    ) -> None:
        super().__init__(sizes, quotas, batch_size, seed=seed, shuffle=shuffle)
        self.identity = {"kind": "steady mix", "quotas": list(quotas), "batch_size": batch_size, "shuffle": shuffle}
        self._firsts = np.cumsum([0, *sizes])[:-1]

    def class_rows(self, codes: Rows, places: Rows) -> Rows:
        """Return the rows' numbers, counted through all datasets."""
        rows: Rows = self._firsts[codes] + places
        return rows


class ScatteredMix:
    """An epoch has the datasets' shares, and its rows are shuffled as one: a batch has what chance gives it."""

    def __init__(self, sizes: Sequence[int], quotas: Sequence[int], *, seed: int) -> None:
        self.num_rows = sum(quotas)
        self.identity = {"kind": "scattered mix", "quotas": list(quotas)}
        self._places = EpochOrder(self.num_rows, seed=key_of("scattered", seed), shuffle=True)
        self._sizes = np.array(sizes, np.int64)
        self._quotas = np.array(quotas, np.int64)
        self._firsts = np.cumsum([0, *sizes])[:-1]

    def rows(self, epoch: int, start: int, stop: int) -> Rows:
        """Return int64 row numbers at positions start..stop-1 of the epoch; positions past the end are left out."""
        places = self._places.rows(epoch, start, stop)
        ends = np.cumsum(self._quotas)
        owner = np.searchsorted(ends, places, side="right")
        draws = places - (ends - self._quotas)[owner] + epoch * self._quotas[owner]
        rows: Rows = self._firsts[owner] + draws % self._sizes[owner]
        return rows
