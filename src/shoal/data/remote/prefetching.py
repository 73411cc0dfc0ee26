"""Shards fetched ahead of their reader: while one window is read, the next one comes."""

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from shoal.base import InputError
from shoal.data.remote.disk_cache import Lease

# Whole shards at once. Small ones are one request each, and 8 of those keep a line busy; large ones share one pool.
_NUM_FETCHES = 8
MIXED_BYTES = 8 << 30

Key = tuple[int, int]


class ShardPrefetcher:
    """Keeps the shards of the window that is read, and of the one after it, on this host.

    Tell it where the reader is by `reach`. Everything it fetched stays leased until the reader has passed it, so that
    no other process drops it from the shared cache. Any number of threads may call; close it at the end.
    """

    def __init__(
        self,
        lease: Callable[[int], Lease],
        sequence: Callable[[int], Sequence[int]],
        shard_rows: Sequence[int],
        *,
        window: int,
    ) -> None:
        """Prepare; nothing is fetched.

        Args:
            lease: gives the use of a shard by its number, fetching it when need be; called from several threads.
            sequence: gives the numbers of all shards in the order in which an epoch reads them.
            shard_rows: how many rows each shard has, by its number.
            window: how many shards of the sequence are read at a time, >= 1.
        """
        if window < 1:
            raise InputError(f"window={window} must be >= 1", next_step="give the number of shards to read at a time")
        self._lease = lease
        self._sequence = sequence
        self._shard_rows = np.array(shard_rows, np.int64)
        self._window = window
        self._plan: tuple[int, list[int], list[int]] | None = None
        self._begin()

    def _begin(self) -> None:
        self._process = os.getpid()
        self._pool = ThreadPoolExecutor(_NUM_FETCHES, thread_name_prefix="shoal-ahead")
        self._groups: dict[Key, list[Future[Lease]]] = {}
        self._lock = threading.Lock()

    def reach(self, epoch: int, position: int) -> None:
        """Return when all shards of the window around this position are here; the window after it is on its way.

        What was fetched for windows before it is given back. Positions count the rows of an epoch from 0.

        Raises:
            RemoteError: a shard cannot be fetched; also if that was found out ahead of time.
        """
        if self._process != os.getpid():
            # A fork has none of the pool's threads, and what is leased is its parent's.
            self._begin()
        group = self._group_at(epoch, position)
        num_groups = self._num_groups(epoch)
        after = (epoch, group + 1) if group + 1 < num_groups else (epoch + 1, 0)
        with self._lock:
            for key in [key for key in self._groups if key not in ((epoch, group), after)]:
                _give_back(self._groups.pop(key))
            # In this order: what is needed now must not queue behind what is needed later.
            current = self._ask((epoch, group))
            self._ask(after)
        try:
            for future in current:
                future.result()
        except BaseException:
            with self._lock:
                # Forgotten, so that the next call asks again instead of raising yesterday's error.
                if (failed := self._groups.pop((epoch, group), None)) is not None:
                    _give_back(failed)
            raise

    def close(self) -> None:
        """Give everything back; fetches that have not begun are dropped. In a fork, the parent keeps what is its."""
        if self._process != os.getpid():
            return
        with self._lock:
            groups, self._groups = list(self._groups.values()), {}
        for futures in groups:
            _give_back(futures)
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _ask(self, key: Key) -> list[Future[Lease]]:
        if key not in self._groups:
            epoch, group = key
            members = list(self._sequence(epoch))[group * self._window : (group + 1) * self._window]
            self._groups[key] = [self._pool.submit(self._lease, shard) for shard in members]
        return self._groups[key]

    def _group_at(self, epoch: int, position: int) -> int:
        # One tuple, read once: another thread may replace it, which costs that thread's plan and nothing else.
        if (plan := self._plan) is None or plan[0] != epoch:
            sequence = list(self._sequence(epoch))
            stops = np.cumsum(self._shard_rows[sequence], dtype=np.int64).tolist()
            self._plan = plan = (epoch, sequence, stops)
        index = int(np.searchsorted(plan[2], position, side="right"))
        return min(index, len(plan[1]) - 1) // self._window

    def _num_groups(self, epoch: int) -> int:
        return -(-len(self._sequence(epoch)) // self._window)


def default_window(shard_bytes: Sequence[int]) -> int | None:
    """Return how many shards to mix at a time: 8 GiB of them; None for all, when they have no more.

    A fixed size: what a machine has room for must not decide about the order.
    """
    return None if sum(shard_bytes) <= MIXED_BYTES else max(1, MIXED_BYTES // max(shard_bytes))


def _give_back(futures: list[Future[Lease]]) -> None:
    for future in futures:
        if not future.cancel():
            # Also when it is still under way: its lease is closed as soon as there is one.
            future.add_done_callback(_close)


def _close(future: Future[Lease]) -> None:
    if future.exception() is None:
        future.result().close()
