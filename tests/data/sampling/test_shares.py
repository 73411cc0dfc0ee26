from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.base import InputError
from shoal.data.sampling.shares import exact_fractions, largest_remainders


@given(total=st.integers(0, 10**6), sizes=st.lists(st.integers(1, 10**6), min_size=1, max_size=20))
def test_shares_add_up_and_each_is_rounded_up_or_down(total: int, sizes: list[int]) -> None:
    counts = largest_remainders(total, [Fraction(size) for size in sizes])

    assert sum(counts) == total
    for count, size in zip(counts, sizes, strict=True):
        assert abs(Fraction(count) - Fraction(total * size, sum(sizes))) < 1


def test_of_equal_remainders_the_earlier_wins() -> None:
    assert largest_remainders(2, [Fraction(1)] * 3) == [1, 1, 0]


def test_thirds_leave_no_gap() -> None:
    assert sum(exact_fractions((1 / 3, 1 / 3, 1 / 3))) == 1


@pytest.mark.parametrize("fractions", [(), (0.0, 1.0), (-0.1, 0.5), (0.8, 0.3)])
def test_impossible_fractions_are_refused(fractions: tuple[float, ...]) -> None:
    with pytest.raises(InputError, match="cannot split by"):
        exact_fractions(fractions)
