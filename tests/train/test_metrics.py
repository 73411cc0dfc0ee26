import math
import random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from shoal.base import InputError
from shoal.train.metrics import ExactSum, Mean, Tally, accuracy, merge_by_name, merge_means

means = st.lists(st.builds(Mean, st.floats(-1e12, 1e12), st.integers(0, 10**6).map(float)), min_size=1, max_size=10)


@given(means, st.randoms())
def test_any_order_of_parts_gives_the_same_bits(parts, shuffler: random.Random):
    shuffled = list(parts)
    shuffler.shuffle(shuffled)

    assert merge_means(shuffled) == merge_means(parts)


def test_names_are_merged_apart():
    merged = merge_by_name([{"a": Mean(1, 2)}, {"a": Mean(2, 2), "b": Mean(5, 1)}])

    assert merged == {"a": Mean(3, 4), "b": Mean(5, 1)}


def test_accuracy_counts_right_rows():
    outputs = torch.tensor([[0.1, 0.9], [0.8, 0.2], [0.3, 0.7]])

    assert accuracy(outputs, torch.tensor([1, 0, 0])).value == 2 / 3


def test_accuracy_of_other_shapes_is_refused():
    with pytest.raises(InputError, match=r"\(3,\) against labels \(3, 1\)"):
        accuracy(torch.zeros(3), torch.zeros(3, 1))


def test_the_mean_of_nothing_is_no_number():
    assert math.isnan(Mean(0, 0).value)


def test_a_mean_of_a_tensor_is_over_its_elements():
    assert Mean.of(torch.tensor([[1.0, 2.0], [3.0, 6.0]])) == Mean(12.0, 4.0)


@given(st.lists(st.floats(-1e300, 1e300), max_size=30), st.randoms(), st.integers(0, 30))
def test_an_exact_sum_does_not_know_the_order_nor_the_parts(values, shuffler: random.Random, cut):
    shuffled = list(values)
    shuffler.shuffle(shuffled)
    sums = [ExactSum(), ExactSum()]
    for place, value in enumerate(shuffled):
        sums[place >= cut].add(value)

    for part in sums[1].parts:
        sums[0].add(part)

    assert sums[0].value == math.fsum(values)


@pytest.mark.parametrize("strange", [math.inf, -math.inf, math.nan])
def test_an_exact_sum_with_something_infinite_in_it_is_no_number(strange):
    total = ExactSum()
    for value in (1.0, strange, 2.0):
        total.add(value)

    assert repr(total.value) == repr(strange)


def test_a_mean_under_way_stays_small():
    tally = Tally()
    for value in range(1, 20_000):
        tally.add(Mean(1 / value, 1.0))

    assert len(tally.total.parts) < 10
    assert tally.mean.total == math.fsum(1 / value for value in range(1, 20_000))


def test_means_under_way_are_merged():
    tallies = [Tally(), Tally()]
    tallies[0].add(Mean(1.0, 2.0))
    tallies[1].add(Mean(math.inf, 3.0))

    tallies[0].merge(tallies[1])

    assert tallies[0].mean == Mean(math.inf, 5.0)
