import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.data.prepare.seen_numbers import SeenNumbers

SINGLES = st.lists(st.floats(width=32, allow_nan=False), max_size=60).map(lambda found: np.array(found, np.float32))


def seen_of(*parts):
    seen = SeenNumbers()
    for part in parts:
        seen.update(np.asarray(part))
    return seen


def state(seen):
    arrays = (seen.counts, seen.lows, seen.highs, seen.rests, *seen.squares)
    return [array.tobytes() for array in arrays]


@given(SINGLES, SINGLES, st.integers(0, 60))
def test_any_cut_and_any_order_give_the_same_bits(first, second, cut):
    whole = seen_of(np.concatenate([first, second]))

    pieces = seen_of(second[cut:]).merge(seen_of(first)).merge(seen_of(second[:cut]))

    assert state(pieces) == state(whole) == state(seen_of(second[::-1], first[::-1]))


@given(SINGLES)
def test_mean_and_deviation_are_exact(values):
    finite = [Fraction(float(value)) for value in values if np.isfinite(value)]

    mean, std = seen_of(values).mean_and_std()

    if not finite:
        assert math.isnan(mean)
        assert math.isnan(std)
        return
    exact = sum(finite) / len(finite)
    assert mean == float(exact)
    assert std == math.sqrt(sum((value - exact) ** 2 for value in finite) / len(finite))


@given(SINGLES, st.floats(width=32, allow_nan=False, allow_infinity=False), st.integers(0, 50))
def test_a_point_is_the_value_that_many_times(values, point, count):
    seen = seen_of(values)

    seen.add_point(point, count)

    assert state(seen) == state(seen_of(values, np.full(count, point, np.float32)))


@given(SINGLES.filter(len), st.sampled_from([(0.0, 0.5), (0.01, 0.99), (0.3, 1.0)]))
def test_clipping_at_quantiles_is_what_reading_again_would_see(values, quantiles):
    seen = seen_of(values)
    low, high = seen.low_at(quantiles[0]), seen.high_at(quantiles[1])
    if not np.isfinite([low, high]).all():
        return

    assert state(seen.clipped(low, high)) == state(seen_of(np.clip(values, np.float32(low), np.float32(high))))


def test_a_huge_count_does_not_overflow():
    seen = SeenNumbers()

    seen.add_point(1.9999999, 2**40)
    for _ in range(3):
        seen = seen.merge(seen)

    assert seen.count == 2**43
    assert seen.mean_and_std() == (float(np.float32(1.9999999)), 0.0)


def test_quantiles_of_small_whole_numbers_are_exact():
    seen = seen_of(np.arange(1, 60))

    assert [seen.quantile(q) for q in (0.5, 0.0, 1.0)] == [30, 1, 59]


def test_quantiles_lie_within_three_percent():
    values = np.random.default_rng(0).lognormal(size=20_000)
    seen = seen_of(values)

    for q in (0.01, 0.25, 0.5, 0.9, 0.999):
        assert seen.quantile(q) == pytest.approx(np.quantile(values, q), rel=0.032)
        assert seen.low_at(q) <= seen.quantile(q) <= seen.high_at(q)


def test_extremes_are_of_the_finite_values():
    seen = seen_of(np.array([-np.inf, 2.0, np.inf, -3.0]))

    assert (seen.low, seen.high, seen.count) == (-3, 2, 4)
