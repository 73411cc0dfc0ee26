import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from shoal.data.order import EpochOrder


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
