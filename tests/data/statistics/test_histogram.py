import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shoal.data.statistics.histogram import NUM_BINS, bin_edges, bins_of, count_bins, exact_sum, quantile, sum_as_float

singles = st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=200)
finite_singles = st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), max_size=200)


@given(values=singles)
@settings(deadline=None, max_examples=40)
def test_bins_sort_as_their_values_do(values: list[float]) -> None:
    ordered = np.sort(np.array(values, np.float32))

    assert (np.diff(bins_of(ordered).astype(np.int64)) >= 0).all()


@given(values=singles)
@settings(deadline=None, max_examples=40)
def test_every_value_lies_between_the_edges_of_its_bin(values: list[float]) -> None:
    array = np.array(values, np.float32)

    low, high = bin_edges()[bins_of(array)], bin_edges()[bins_of(array).astype(np.int64) + 1]

    assert (low <= array).all()
    assert ((array < high) | np.isinf(array)).all()


def test_edges_never_fall() -> None:
    edges = bin_edges()

    assert edges.shape == (NUM_BINS + 1,)
    assert (edges[1:] >= edges[:-1]).all()


def test_negative_zero_is_zero() -> None:
    assert bins_of(np.array([-0.0], np.float32)) == bins_of(np.array([0.0], np.float32))


@given(values=finite_singles)
@settings(deadline=None, max_examples=40)
def test_sum_is_the_exactly_rounded_one(values: list[float]) -> None:
    assert sum_as_float(exact_sum(np.array(values, np.float32))) == math.fsum(values)


def test_sum_leaves_infinities_out() -> None:
    assert sum_as_float(exact_sum(np.array([1.5, np.inf, -np.inf], np.float32))) == 1.5


def test_sum_beyond_float64_is_infinite() -> None:
    assert sum_as_float(-(1 << 1_300)) == -math.inf


@given(values=st.lists(st.floats(0.0078125, 1e6, width=32), min_size=5, max_size=300), q=st.floats(0.05, 0.95))
@settings(deadline=None, max_examples=40)
def test_quantile_is_within_a_bin_of_the_true_one(values: list[float], q: float) -> None:
    found = quantile(count_bins(np.array(values, np.float32)), q)

    low, high = np.quantile(values, q, method="lower"), np.quantile(values, q, method="higher")
    assert low * 0.96 <= found or np.isclose(low, min(values))
    assert found <= high * 1.04


@pytest.mark.parametrize("q", [0.0, 0.5, 1.0])
def test_quantile_of_nothing_is_nan(q: float) -> None:
    assert math.isnan(quantile(np.zeros(NUM_BINS, np.uint64), q))


def test_quantile_among_infinities_is_finite_or_infinite_but_never_nan() -> None:
    assert quantile(count_bins(np.array([np.inf, np.inf], np.float32)), 0.5) == math.inf
