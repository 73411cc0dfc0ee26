import os
import threading

import pytest

from shoal.base import RemoteError
from shoal.data.remote.collecting import ShardCollector


@pytest.fixture
def fetched():
    return []


def test_nothing_is_fetched_before_the_first_batch_and_then_each_shard_once(fetched):
    collector = ShardCollector(lambda shard, _: fetched.append(shard), range(20))
    assert fetched == []

    for position in range(3):
        collector.reach(0, position)
    collector.join()
    collector.reach(1, 0)
    collector.join()

    assert sorted(fetched) == list(range(20))


def test_nobody_waits_for_shards_that_are_under_way():
    gate = threading.Event()
    collector = ShardCollector(lambda shard, _: gate.wait(), range(20))

    collector.reach(0, 0)

    gate.set()
    collector.join()


def test_nothing_more_is_begun_after_closing(fetched):
    gate = threading.Event()

    def fetch(shard, _):
        gate.wait()
        fetched.append(shard)

    collector = ShardCollector(fetch, range(100))
    collector.reach(0, 0)
    collector.close()
    gate.set()
    collector.join()

    assert len(fetched) <= 8


def test_the_first_failure_ends_it_and_is_left_to_who_needs_the_shard():
    asked = []

    def fetch(shard, _):
        asked.append(shard)
        raise RemoteError("cannot fetch", next_step="check the store")

    collector = ShardCollector(fetch, range(100))
    collector.reach(0, 0)
    collector.join()

    assert len(asked) <= 8


def test_a_forked_child_begins_nothing():
    collector = ShardCollector(lambda shard, _: os._exit(1), range(3))
    child = os.fork()
    if child == 0:
        collector.reach(0, 0)
        collector.join()
        os._exit(7)

    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


def test_a_dataset_without_shards_is_nothing_to_do(fetched):
    collector = ShardCollector(lambda shard, _: fetched.append(shard), [])
    collector.reach(0, 0)
    collector.join()

    assert fetched == []


@pytest.mark.parametrize(
    ("num_shards", "together"),
    [(1, [1]), (3, [3] * 3), (8, [8] * 8), (10, [8] * 8 + [2] * 2), (16, [8] * 16)],
)
def test_each_fetch_is_told_how_many_are_under_way(num_shards, together):
    told = {}
    collector = ShardCollector(told.__setitem__, range(num_shards))
    collector.reach(0, 0)
    collector.join()

    assert [told[shard] for shard in range(num_shards)] == together
