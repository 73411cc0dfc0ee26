import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shoal.base import InputError
from shoal.data.loading.order import EpochOrder, WindowOrder


@given(num_rows=st.integers(0, 40_000), cuts=st.lists(st.integers(0, 40_000), max_size=5), epoch=st.integers(0, 3))
@settings(deadline=None, max_examples=25)
def test_any_cuts_of_an_epoch_join_to_all_rows_once(num_rows: int, cuts: list[int], epoch: int) -> None:
    order = EpochOrder(num_rows, seed=1, shuffle=True)
    borders = [0, *sorted(cut for cut in cuts if cut <= num_rows), num_rows]

    rows = np.concatenate([order.rows(epoch, a, b) for a, b in itertools.pairwise(borders)])

    assert np.array_equal(np.sort(rows), np.arange(num_rows))


def test_jumping_between_epochs_changes_nothing() -> None:
    order = EpochOrder(1_000, seed=1, shuffle=True)
    first = order.rows(0, 10, 20)

    order.rows(5, 0, 1_000)

    assert np.array_equal(order.rows(0, 10, 20), first)


def test_without_shuffle_is_storage_order() -> None:
    order = EpochOrder(10, seed=1, shuffle=False)

    assert order.rows(3, 4, 99).tolist() == [4, 5, 6, 7, 8, 9]


def test_past_the_end_there_is_nothing() -> None:
    order = EpochOrder(10, seed=1, shuffle=True)

    assert order.rows(0, 10, 20).shape == (0,)


@given(
    shard_rows=st.lists(st.integers(0, 12), min_size=1, max_size=12),
    window=st.integers(1, 14),
    epoch=st.integers(0, 5),
)
@settings(deadline=None, max_examples=60)
def test_a_window_visits_each_row_once_and_few_shards_at_a_time(shard_rows: list[int], window: int, epoch: int) -> None:
    order = WindowOrder(shard_rows, window, seed=1)

    rows = order.rows(epoch, 0, order.num_rows)

    assert sorted(rows.tolist()) == list(range(sum(shard_rows)))
    shards = np.searchsorted(np.cumsum(shard_rows), rows, side="right").tolist()
    groups: list[set[int]] = []
    for shard in shards:
        if not groups or (shard not in groups[-1] and len(groups[-1]) == window):
            groups.append(set())
        groups[-1].add(shard)
    assert sum(map(len, groups)) == len(set(shards))


@given(shard_rows=st.lists(st.integers(1, 12), min_size=1, max_size=9), window=st.integers(1, 9), data=st.data())
@settings(deadline=None, max_examples=40)
def test_any_stretch_of_a_window_order_is_a_stretch_of_the_whole(
    shard_rows: list[int], window: int, data: st.DataObject
) -> None:
    order, whole = (WindowOrder(shard_rows, window, seed=1) for _ in range(2))
    start = data.draw(st.integers(0, order.num_rows))
    stop = data.draw(st.integers(start, order.num_rows + 5))

    assert order.rows(2, start, stop).tolist() == whole.rows(2, 0, whole.num_rows)[start:stop].tolist()


def test_windows_epochs_and_seeds_differ() -> None:
    orders = [
        WindowOrder([10] * 6, window, seed=seed).rows(epoch, 0, 60).tolist()
        for window, seed, epoch in [(2, 0, 0), (3, 0, 0), (2, 1, 0), (2, 0, 1)]
    ]

    assert len({tuple(order) for order in orders}) == 4


def test_a_window_without_shards_is_refused() -> None:
    with pytest.raises(InputError, match="window=0"):
        WindowOrder([3], 0, seed=0)
