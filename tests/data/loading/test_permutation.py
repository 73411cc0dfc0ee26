import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shoal.base import InputError
from shoal.data import native
from shoal.data.loading.permutation import Permutation


@given(size=st.integers(0, 3_000), seed=st.integers(-(2**70), 2**70), epoch=st.integers(0, 2**40))
@settings(deadline=None, max_examples=30)
def test_visits_every_row_once(size: int, seed: int, epoch: int) -> None:
    images = Permutation(size, seed=seed, epoch=epoch)[:]

    assert np.array_equal(np.sort(images), np.arange(size))


@given(size=st.integers(1, 2**62), seed=st.integers(0, 9), data=st.data())
@settings(deadline=None, max_examples=30)
def test_stays_inside_and_never_meets_itself_at_huge_sizes(size: int, seed: int, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, size - 1))
    permutation = Permutation(size, seed=seed, epoch=0)

    images = permutation[start : start + 1_000]

    assert len(np.unique(images)) == len(images) == min(1_000, size - start)
    assert images.min() >= 0
    assert images.max() < size


@given(size=st.integers(1, 10_000), cut=st.integers(0, 10_000))
@settings(deadline=None, max_examples=25)
def test_any_stretch_is_the_same_as_in_the_whole(size: int, cut: int) -> None:
    permutation = Permutation(size, seed=3, epoch=1)

    joined = np.concatenate([permutation[:cut], permutation[cut:]])

    assert np.array_equal(joined, permutation[:])


@given(size=st.integers(1, 10**9), seed=st.integers(0, 9), epoch=st.integers(0, 99), data=st.data())
@settings(deadline=None, max_examples=40)
def test_compiled_or_not_it_is_the_same(size: int, seed: int, epoch: int, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, size - 1))
    permutation = Permutation(size, seed=seed, epoch=epoch)
    images = permutation[start : start + 600]

    compiled, native.native = native.native, None
    try:
        again = permutation[start : start + 600]
    finally:
        native.native = compiled

    assert np.array_equal(images, again)


def test_streams_of_one_epoch_differ() -> None:
    orders = [Permutation(50, seed=0, epoch=0, stream=stream)[:].tolist() for stream in ("", "/a", "/b")]

    assert orders[0] != orders[1] != orders[2] != orders[0]


def test_is_the_same_on_every_machine_and_in_every_release() -> None:
    few = Permutation(10, seed=0, epoch=0)[:]
    many = Permutation(1_000, seed=0, epoch=0)[:6]

    assert few.tolist() == [0, 1, 4, 2, 6, 5, 8, 7, 3, 9]
    assert many.tolist() == [54, 6, 318, 744, 433, 393]


def test_seeds_and_epochs_give_different_orders() -> None:
    orders = {tuple(Permutation(50, seed=seed, epoch=epoch)[:]) for seed in range(5) for epoch in range(5)}

    assert len(orders) == 25


@pytest.mark.parametrize(("size", "num_orders"), [(4, 24), (5, 120)])
def test_small_orders_are_close_to_equally_likely(size: int, num_orders: int) -> None:
    orders = [Permutation(size, seed=1, epoch=epoch)[:] for epoch in range(12 * num_orders)]

    _, counts = np.unique(orders, axis=0, return_counts=True)
    chi_square = ((counts - 12) ** 2).sum() / 12 + (num_orders - len(counts)) * 12

    assert chi_square / (num_orders - 1) < 1.6


def test_neighbours_do_not_stay_neighbours() -> None:
    images = Permutation(100_000, seed=0, epoch=0)[:]

    assert abs(np.corrcoef(images[:-1], images[1:])[0, 1]) < 0.02


@pytest.mark.parametrize("size", [-1, 2**62 + 1])
def test_refuses_sizes_it_cannot_permute(size: int) -> None:
    with pytest.raises(InputError, match=str(size)):
        Permutation(size, seed=0, epoch=0)


def test_refuses_steps() -> None:
    with pytest.raises(InputError, match="stretch"):
        Permutation(10, seed=0, epoch=0)[::2]
