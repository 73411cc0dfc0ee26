import os
import signal
import threading

import pytest

from shoal.base import InputError, RemoteError
from shoal.data.remote.disk_cache import DiskCache
from shoal.data.remote.prefetching import ShardPrefetcher, default_window

ROWS = [10] * 6


@pytest.fixture
def fetched():
    return []


@pytest.fixture
def cache(tmp_path):
    return DiskCache(tmp_path, 450)


@pytest.fixture
def prefetcher(cache, fetched):
    lock = threading.Lock()

    def lease(shard):
        def make(target):
            with lock:
                fetched.append(shard)
            target.write_bytes(bytes(100))

        return cache.lease(str(shard), make, size_bytes=100)

    made = ShardPrefetcher(lease, lambda epoch: range(6), ROWS, window=2)
    yield made
    made.close()


def test_the_window_is_there_when_reach_returns(prefetcher, cache):
    prefetcher.reach(0, 0)

    assert all((cache.folder / "entries" / name).exists() for name in "01")


def test_each_shard_is_fetched_once_an_epoch_even_from_a_small_cache(prefetcher, fetched):
    for position in range(0, 60, 5):
        prefetcher.reach(0, position)
    prefetcher.close()

    # The first two may have come again by now: the next epoch begins with them.
    assert [fetched.count(shard) for shard in range(2, 6)] == [1] * 4
    assert set(fetched) == set(range(6))


def test_a_failed_fetch_is_raised_where_its_rows_are_needed_and_asked_again(tmp_path):
    cache = DiskCache(tmp_path, 1_000)
    broken = [True]

    def lease(shard):
        if shard == 3 and broken:
            broken.pop()
            raise RemoteError("cannot fetch shard 3", next_step="check the store")
        return cache.lease(str(shard), lambda target: target.touch())

    prefetcher = ShardPrefetcher(lease, lambda epoch: range(6), ROWS, window=2)
    prefetcher.reach(0, 0)

    with pytest.raises(RemoteError, match="shard 3"):
        prefetcher.reach(0, 25)
    prefetcher.reach(0, 25)
    prefetcher.close()


@pytest.mark.filterwarnings("ignore:.*fork")
def test_a_fork_fetches_with_threads_of_its_own_and_leaves_its_parents_leases(prefetcher, cache, fetched):
    prefetcher.reach(0, 0)
    for lease in [lease for group in prefetcher._groups.values() for lease in group]:
        lease.result()
    with prefetcher._lock:  # as if a thread were just using it
        child = os.fork()
        if not child:
            signal.alarm(20)
            prefetcher.reach(0, 45)
            os._exit(0 if {4, 5} <= set(fetched) else 1)

    assert os.waitpid(child, 0)[1] == 0
    prefetcher.reach(0, 5)


def test_a_window_holds_a_shard():
    with pytest.raises(InputError, match="window"):
        ShardPrefetcher(lambda shard: None, lambda epoch: [], [], window=0)


GIB = 1 << 30


@pytest.mark.parametrize(("sizes", "window"), [([GIB] * 8, None), ([GIB] * 100, 8), ([10 * GIB] * 2, 1), ([], None)])
def test_the_default_window_depends_on_the_shards_alone(sizes, window):
    assert default_window(sizes) == window
