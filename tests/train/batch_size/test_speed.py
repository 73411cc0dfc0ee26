import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.train.batch_size.speed import StepTime, fit_step_time

sizes = st.lists(st.integers(1, 1 << 16), min_size=2, max_size=8, unique=True)
seconds = st.floats(1e-6, 100.0)


@given(sizes, st.floats(0, 1.0), st.floats(1e-9, 1e-2))
def test_finds_a_machine_that_is_a_line(sizes, fixed_s, row_s):
    found = fit_step_time({size: fixed_s + row_s * size for size in sizes})

    for size in sizes:
        assert found.seconds(size) == pytest.approx(fixed_s + row_s * size, rel=1e-6)


@given(st.dictionaries(st.integers(1, 1 << 16), seconds, min_size=2, max_size=8))
def test_more_rows_never_take_less_time_and_none_is_negative(timed):
    found = fit_step_time(timed)

    assert found.fixed_s >= 0
    assert found.row_s >= 0
    assert found.seconds(1) > 0


def test_a_hiccup_at_the_larger_size_is_no_reason_to_think_that_rows_are_free():
    found = fit_step_time({64: 0.010, 128: 0.009})

    assert found.row_s == 0
    assert found.seconds(1024) == pytest.approx(0.0095, rel=0.1)


def test_one_size_says_nothing_of_others():
    assert fit_step_time({64: 0.01}) is None
    assert fit_step_time({}) is None


@given(st.integers(1, 1 << 16), seconds, seconds)
def test_a_guess_from_one_size_is_right_for_that_size(size, step_s, fixed_s):
    guess = StepTime.guess(size, step_s, fixed_s)

    assert guess.seconds(size) == pytest.approx(step_s)
    assert guess.seconds(2 * size) <= 2 * step_s * (1 + 1e-9)
    assert guess.fixed_s == min(fixed_s, step_s)
