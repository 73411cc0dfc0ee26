import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from shoal.data.sampling.batch_counts import BatchCounts

SIZES = st.lists(st.integers(0, 3_000), min_size=1, max_size=8).filter(any)


@given(quotas=SIZES, batch_size=st.integers(1, 300), key=st.integers(0, 2**64 - 1))
@settings(deadline=None, max_examples=200)
def test_every_batch_has_each_share_rounded_up_or_down_and_all_add_up(
    quotas: list[int], batch_size: int, key: int
) -> None:
    plan = BatchCounts(quotas, batch_size, key=key)
    num_rows = sum(quotas)
    num_batches = -(-num_rows // batch_size)

    counts = plan.counts(0, num_batches)

    sizes = np.full(num_batches, batch_size)
    sizes[-1] = num_rows - batch_size * (num_batches - 1)
    exact = sizes[:, None] * np.array(quotas) / num_rows
    assert counts.sum(axis=0).tolist() == quotas
    assert np.array_equal(counts.sum(axis=1), sizes)
    assert (np.abs(counts - exact) < 1).all()


@given(quotas=SIZES, batch_size=st.integers(1, 300), key=st.integers(0, 2**64 - 1), part=st.floats(0, 1))
@settings(deadline=None, max_examples=200)
def test_what_came_before_a_batch_follows_without_going_through_it(
    quotas: list[int], batch_size: int, key: int, part: float
) -> None:
    plan = BatchCounts(quotas, batch_size, key=key)
    num_batches = -(-sum(quotas) // batch_size)
    batch = int(part * num_batches)

    assert np.array_equal(plan.before(batch), plan.counts(0, num_batches)[:batch].sum(axis=0))
    assert np.array_equal(plan.counts(batch, num_batches), plan.counts(0, num_batches)[batch:])


def test_a_rare_class_is_spread_over_the_epoch() -> None:
    plan = BatchCounts([9_990, 10], 100, key=3)

    holders = np.flatnonzero(plan.counts(0, 100)[:, 1])

    assert len(holders) == 10
    assert np.diff(holders).max() <= 16


def test_billions_of_rows_need_no_more_than_one_batch() -> None:
    plan = BatchCounts([6 * 10**9, 4 * 10**9 - 1, 1], 256, key=1)

    counts = plan.counts(39_000_000, 39_000_010)

    assert np.array_equal(counts.sum(axis=1), np.full(10, 256))
    assert plan.before(39_000_000).sum() == 39_000_000 * 256
