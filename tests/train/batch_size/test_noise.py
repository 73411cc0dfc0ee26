import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.train.batch_size.noise import Noise, efficiency, gain, useful_rows

scale = st.floats(1e-6, 1e6)
rows = st.integers(2, 1 << 20)


@given(signal=scale, variance=scale, part_rows=st.integers(1, 4096), num_parts=st.integers(2, 64))
def test_expected_squares_give_back_signal_and_variance(signal, variance, part_rows, num_parts):
    whole_rows = part_rows * num_parts

    noise = Noise().after(
        part_square=signal + variance / part_rows,
        whole_square=signal + variance / whole_rows,
        part_rows=part_rows,
        whole_rows=whole_rows,
    )

    # Two numbers of the size of the squares are subtracted: that is how exact it can be.
    exact_to = 1e-9 * (signal + variance) * num_parts * part_rows
    assert noise.signal / noise.weight == pytest.approx(signal, abs=exact_to)
    assert noise.variance / noise.weight == pytest.approx(variance, abs=exact_to)


@pytest.mark.parametrize("edges", [(0, 16, 32, 48, 64), (0, 7, 9, 40, 64)], ids=["even", "uneven"])
@pytest.mark.parametrize("noise_rows", [5.0, 80.0, 1000.0])
def test_finds_the_noise_scale_of_random_gradients(edges, noise_rows):
    """Gradients of rows around a known mean: the weighted squares of parts of any sizes, as the workers add them up."""
    random = np.random.default_rng(7)
    dim, num_rows = 400, edges[-1]
    mean = random.standard_normal(dim)
    mean /= np.linalg.norm(mean)
    noise, found = Noise(), []

    for _ in range(300):
        gradients = mean + math.sqrt(noise_rows / dim) * random.standard_normal((num_rows, dim))
        parts = [gradients[start:stop] for start, stop in pairwise(edges)]
        part_square = sum(len(part) / num_rows * np.square(part.mean(0)).sum() for part in parts)
        noise = noise.after(part_square, np.square(gradients.mean(0)).sum(), num_rows / len(parts), num_rows)
        found.append(noise.rows)

    assert np.median(found[50:]) == pytest.approx(noise_rows, rel=0.1)


def test_no_signal_at_all_is_noise_without_end_but_a_number():
    noise = Noise().after(part_square=4.0, whole_square=0.5, part_rows=16, whole_rows=64)

    assert noise.signal < 0
    assert noise.rows == 1e9


def test_what_is_long_ago_is_forgotten():
    noise = Noise()
    for square in [50.0] * 100 + [2.0] * 100:
        noise = noise.after(part_square=square, whole_square=1.0, part_rows=16, whole_rows=64)
    fresh = Noise().after(part_square=2.0, whole_square=1.0, part_rows=16, whole_rows=64)

    assert noise.rows == pytest.approx(fresh.rows, rel=0.5)
    assert noise.weight == pytest.approx(1.0, abs=1e-3)


@given(noise_rows=st.floats(1e-3, 1e9), least=rows, factor=st.integers(1, 1000))
def test_a_larger_batch_is_worth_no_less_and_no_more_than_its_rows(noise_rows, least, factor):
    worth = gain(noise_rows, least * factor, least)

    assert 1 - 1e-9 <= worth <= factor * (1 + 1e-9)
    assert efficiency(noise_rows, least * factor, least) <= 1 + 1e-9
    assert gain(noise_rows, least * factor * 2, least) >= worth


def test_momentum_makes_larger_batches_useful():
    assert useful_rows(100.0, 0.0) == 100.0
    assert useful_rows(100.0, 0.9) == pytest.approx(585, abs=1)
