import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.train.batch_size.policy import choose, ladder, lr_factor
from shoal.train.batch_size.settings import AdaptiveBatch

SETTINGS = AdaptiveBatch(min=64, max=1024)
SIZES = ladder(SETTINGS, 4)


def settle(noise_rows, fixed_s, row_s, start=64):
    """Where choices end on a machine whose steps are a line, and how many it took."""
    size, timed, count = start, {}, 0
    while True:
        timed[size] = fixed_s + row_s * size
        choice = choose(SETTINGS, SIZES, size, noise_rows, timed, "adascale")
        if choice.rows == size or count == 20:
            return size, count
        size, count = choice.rows, count + 1


def best(noise_rows, fixed_s, row_s):
    def goodput(size):
        return size / (fixed_s + row_s * size) / (noise_rows + size)

    return max(goodput(size) for size in SIZES), goodput


@given(st.integers(2, 5000), st.integers(0, 5000), st.integers(1, 16))
def test_the_ladder_lies_between_its_ends(least, more, divisor):
    sizes = ladder(AdaptiveBatch(min=least, max=least + more), divisor)

    assert sizes[0] == least
    assert sizes[-1] == least + more
    assert sizes == sorted(set(sizes))
    assert all(size % divisor == 0 for size in sizes[1:-1])


@given(
    noise_rows=st.floats(1, 1e6), fixed_s=st.floats(0, 0.1), row_s=st.floats(1e-7, 1e-3), start=st.sampled_from(SIZES)
)
def test_choices_come_to_rest_near_the_best_size(noise_rows, fixed_s, row_s, start):
    size, count = settle(noise_rows, fixed_s, row_s, start)
    most, goodput = best(noise_rows, fixed_s, row_s)

    assert count < 20
    assert goodput(size) >= 0.96 * most


def test_the_size_grows_with_the_price_of_a_reduction_and_with_the_noise():
    cheap, _ = settle(noise_rows=150.0, fixed_s=0.001, row_s=1e-5)
    dear, _ = settle(noise_rows=150.0, fixed_s=0.021, row_s=1e-5)
    noisy, _ = settle(noise_rows=3000.0, fixed_s=0.001, row_s=1e-5)

    assert cheap < noisy <= dear


@given(st.sampled_from(SIZES), st.floats(1e-3, 1e9), st.dictionaries(st.sampled_from(SIZES), st.floats(1e-6, 10.0)))
def test_a_choice_is_allowed_and_never_a_leap(current, noise_rows, timed):
    choice = choose(SETTINGS, SIZES, current, noise_rows, {**timed, current: 0.01}, "adascale")

    assert choice.rows in SIZES
    assert current / 4 <= choice.rows <= current * 4
    assert 0 < choice.worth <= 1
    assert math.isfinite(choice.lr_factor)


def test_a_dear_exchange_is_seen_from_the_first_size_alone():
    guessed = choose(SETTINGS, SIZES, 64, 300.0, {64: 0.0225}, "adascale", fixed_s=0.0215)
    unknown = choose(SETTINGS, SIZES, 64, 300.0, {64: 0.0225}, "adascale")

    assert guessed.rows == 256
    assert unknown.rows == 128


def test_where_there_is_one_size_only_it_stays():
    settings = AdaptiveBatch(min=64, max=64)

    assert choose(settings, ladder(settings, 4), 64, 100.0, {64: 0.1}, "adascale").rows == 64


@given(st.floats(1e-3, 1e9), st.sampled_from(SIZES))
def test_the_rate_is_scaled_by_no_more_than_the_rows(noise_rows, rows):
    full = lr_factor("adascale", noise_rows, rows, 64)

    assert full * (1 + 1e-9) >= 1
    assert full <= rows / 64 * (1 + 1e-9)
    assert lr_factor("sqrt", noise_rows, rows, 64) == pytest.approx(math.sqrt(full))
    assert lr_factor("none", noise_rows, rows, 64) == 1
