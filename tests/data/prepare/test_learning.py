"""One pass learns what several would have: proved against fitting each operator on the real output of those before."""

import numpy as np
import pytest

from shoal.base import InputError
from shoal.data import Column, Preparation, Schema
from shoal.data.prepare import Bucketise, Clip, Encode, HashBucket, Impute, Log1p, MinMax, Standardise, seen_values
from shoal.data.prepare.chain import Chain
from shoal.data.prepare.fitting import Fitting
from shoal.data.prepare.learning import ColumnPass

COLUMN = Column(name="x", dtype="float64", nullable=True)
ONE_PASS = [
    [Impute("median"), Clip(quantiles=(0.02, 0.98)), Standardise()],
    [Impute("mean"), Log1p(), Clip(quantiles=(0.1, 1)), MinMax()],
    [Impute("most_frequent"), Clip(0, 50), Bucketise(num_buckets=7)],
    [Impute("constant", 7.0), Log1p(), Standardise()],
    [Clip(quantiles=(0.3, 0.6)), Impute("mean"), Standardise()],
    [Impute("median"), Clip(quantiles=(0.05, 0.95)), Clip(quantiles=(0.2, 0.8)), Standardise()],
]
TWO_PASSES = [
    [Impute("mean"), Standardise(), Bucketise(num_buckets=4)],
    [Impute("mean"), Clip(quantiles=(0.1, 0.9)), Log1p(), Standardise()],
]


def rows(num_rows=3_000):
    rng = np.random.default_rng(5)
    return {"x": np.round(rng.lognormal(2, 1.5, num_rows), 2), "x_mask": rng.random(num_rows) > 0.2}


@pytest.mark.parametrize("operators", ONE_PASS + TWO_PASSES)
def test_a_pass_learns_what_reading_again_would(operators):
    batch = rows()
    fill = next(index for index, operator in enumerate(operators) if operator.fills_missing)

    (chain,) = Preparation({"x": operators}).fit([batch]).plan.chains

    # Behind a learned prefix the data is read for one operator alone: what it learns is the reference.
    for index in range(fill + 1, len(operators)):
        again = Preparation({"x": [*chain.operators[:index], operators[index]]}).fit([batch])
        assert again.plan.chains[0].operators[index] == chain.operators[index], operators


@pytest.mark.parametrize("operators", ONE_PASS)
def test_one_pass_is_enough(operators):
    fitted = Preparation({"x": operators}).fit(iter([rows()]))

    assert [operator.need(COLUMN) for operator in fitted.plan.chains[0].operators] == [None for _ in operators]


@pytest.mark.parametrize("operators", TWO_PASSES)
def test_two_passes_are_enough(operators):
    fitting = Preparation({"x": operators}).start(Schema((COLUMN,)))

    for _ in range(2):
        fitting.update(rows())
        fitting = fitting.finish()

    assert not isinstance(fitting, Fitting)


@pytest.mark.parametrize("operators", ONE_PASS)
def test_any_cut_and_any_order_learn_the_same(operators):
    batch = rows()
    parts = [{name: values[start : start + 700] for name, values in batch.items()} for start in range(0, 3_000, 700)]
    passes = []
    for part in parts:
        passes.append(ColumnPass(Chain(COLUMN, tuple(operators))))
        passes[-1].update(part)

    merged = passes[3].merge(passes[0]).merge(passes[4].merge(passes[2].merge(passes[1])))

    assert merged.finish() == Preparation({"x": operators}).fit([batch]).plan.chains[0]


def test_filled_texts_count_in_the_vocabulary(fit_one):
    texts, mask = np.array(["a", "a", "b", "b", "b", ""], object), np.array([1, 1, 1, 0, 0, 0], bool)

    fitted = fit_one([Impute("most_frequent"), Encode(min_count=5)], texts, mask)

    assert fitted.plan.chains[0].operators[1].categories == ("a",)


def test_a_given_operator_between_learning_ones_is_applied(fit_one):
    values = np.arange(100)

    fitted = fit_one([Impute("most_frequent"), HashBucket(5), Encode()], values, np.ones(100, bool))

    assert sorted(fitted.plan.chains[0].operators[2].categories) == [0, 1, 2, 3, 4]


def test_too_many_categories_are_refused_by_name(fit_one, monkeypatch):
    monkeypatch.setattr(seen_values, "MAX_DISTINCT", 2)

    with pytest.raises(InputError, match="cannot learn of column 'x': there are more than 2"):
        fit_one([Encode()], np.arange(3))
