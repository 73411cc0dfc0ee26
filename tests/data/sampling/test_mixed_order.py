import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shoal.data.sampling.mixed_order import ScatteredMix, SteadyMix

PARTS = st.lists(st.tuples(st.integers(1, 300), st.integers(0, 400)), min_size=1, max_size=4).filter(
    lambda parts: any(quota for _, quota in parts)
)


@given(parts=PARTS, batch_size=st.integers(1, 64), epoch=st.integers(0, 3), steady=st.booleans())
@settings(deadline=None, max_examples=60)
def test_an_epoch_has_the_quotas_however_it_is_cut(
    parts: list[tuple[int, int]], batch_size: int, epoch: int, steady: bool
) -> None:
    sizes, quotas = [size for size, _ in parts], [quota for _, quota in parts]
    order = SteadyMix(sizes, quotas, batch_size, seed=1) if steady else ScatteredMix(sizes, quotas, seed=1)
    borders = [*range(0, order.num_rows, 17), order.num_rows]

    rows = order.rows(epoch, 0, order.num_rows)
    pieces = [order.rows(epoch, start, stop) for start, stop in itertools.pairwise(borders)]

    owner = np.searchsorted(np.cumsum(sizes), rows, side="right")
    assert np.bincount(owner, minlength=len(sizes)).tolist() == quotas
    assert np.array_equal(np.concatenate(pieces), rows)


@pytest.mark.parametrize("steady", [True, False])
def test_no_row_of_a_dataset_comes_again_before_all_have_come(steady: bool) -> None:
    order = SteadyMix([50, 70], [20, 35], 11, seed=1) if steady else ScatteredMix([50, 70], [20, 35], seed=1)

    rows = np.concatenate([order.rows(epoch, 0, 55) for epoch in range(10)])

    # Ten epochs take 200 draws of the first and 350 of the second: four and five times all their rows.
    assert np.bincount(rows).tolist() == [4] * 50 + [5] * 70


def test_orders_of_other_quotas_are_told_apart() -> None:
    assert SteadyMix([5], [5], 2, seed=0).identity != SteadyMix([5], [4], 2, seed=0).identity
    assert SteadyMix([5], [5], 2, seed=0).identity != SteadyMix([5], [5], 3, seed=0).identity
    assert ScatteredMix([5], [5], seed=0).identity != SteadyMix([5], [5], 2, seed=0).identity
