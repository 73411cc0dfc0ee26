import itertools
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from shoal.data.sampling.class_order import ClassOrder


class Numbered(ClassOrder):
    """Classes stand one behind the other: row = 1000 * class + number within it."""

    def class_rows(self, codes: NDArray[np.int64], places: NDArray[np.int64]) -> NDArray[np.int64]:
        assert (places < np.array(self._sizes)[codes]).all()
        return codes * 1_000 + places


SIZES = st.lists(st.integers(1, 900), min_size=1, max_size=6)


@given(sizes=SIZES, batch_size=st.integers(1, 200), epoch=st.integers(0, 3), seed=st.integers(0, 99))
@settings(deadline=None, max_examples=50)
def test_each_row_comes_once_an_epoch_when_quotas_are_sizes(
    sizes: list[int], batch_size: int, epoch: int, seed: int
) -> None:
    order = Numbered(sizes, sizes, batch_size, seed=seed)

    rows = order.rows(epoch, 0, order.num_rows + 5)

    assert sorted(rows) == [1_000 * code + place for code, size in enumerate(sizes) for place in range(size)]


@given(
    sizes=SIZES,
    extra=st.integers(0, 700),
    batch_size=st.integers(1, 200),
    cuts=st.lists(st.integers(0, 7_000), max_size=6),
)
@settings(deadline=None, max_examples=50)
def test_any_cuts_of_an_epoch_join_to_the_same_rows(
    sizes: list[int], extra: int, batch_size: int, cuts: list[int]
) -> None:
    quotas = [size + extra for size in sizes]
    whole = Numbered(sizes, quotas, batch_size, seed=1).rows(1, 0, sum(quotas))
    order = Numbered(sizes, quotas, batch_size, seed=1)
    borders = [0, *sorted(cut for cut in cuts if cut <= order.num_rows), order.num_rows]

    pieces = [order.rows(1, start, stop) for start, stop in itertools.pairwise(borders)]

    assert np.array_equal(np.concatenate(pieces), whole)


@given(size=st.integers(1, 60), quota=st.integers(1, 500), batch_size=st.integers(1, 50))
@settings(deadline=None, max_examples=50)
def test_no_row_comes_again_before_all_of_its_class_came(size: int, quota: int, batch_size: int) -> None:
    order = Numbered([size, 100], [quota, 100], batch_size, seed=5)

    rows = np.concatenate([order.rows(epoch, 0, order.num_rows) for epoch in range(3)])

    mine = rows[rows < 1_000]
    passes = [mine[first : first + size] for first in range(0, len(mine), size)]
    assert len(mine) == 3 * quota
    assert all(len(np.unique(one)) == len(one) for one in passes)


def test_halves_of_a_batch_have_nearly_the_shares_of_the_batch() -> None:
    order = Numbered([900, 500, 100], [900, 500, 100], 150, seed=2)

    for batch in range(10):
        codes = order.rows(0, batch * 150, batch * 150 + 75) // 1_000
        assert (np.abs(np.bincount(codes, minlength=3) - [45, 25, 5]) <= 1).all()


def test_epochs_and_seeds_differ() -> None:
    order = Numbered([900, 100], [900, 100], 50, seed=2)

    assert not np.array_equal(order.rows(0, 0, 100), order.rows(1, 0, 100))
    assert not np.array_equal(Numbered([900, 100], [900, 100], 50, seed=3).rows(0, 0, 100), order.rows(0, 0, 100))


def test_threads_that_ask_at_once_get_what_one_would() -> None:
    sizes = [40_000, 9_000, 900]
    asked = [(epoch, start) for epoch in range(2) for start in range(0, 49_900, 4_990)]
    alone = Numbered(sizes, sizes, 100, seed=1)
    expected = [alone.rows(epoch, start, start + 50) for epoch, start in asked]
    shared = Numbered(sizes, sizes, 100, seed=1)

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda place: shared.rows(place[0], place[1], place[1] + 50), asked))

    assert all(map(np.array_equal, found, expected))
