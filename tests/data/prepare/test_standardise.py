import numpy as np
import pytest

from shoal.base import SchemaError
from shoal.data.prepare import Standardise


def test_the_training_rows_have_mean_zero_and_deviation_one(fit_one):
    values = np.random.default_rng(0).normal(50, 7, 10_000)

    prepared = fit_one([Standardise()], values).apply({"x": values})["x"].astype(np.float64)

    assert prepared.mean() == pytest.approx(0, abs=1e-5)
    assert prepared.std() == pytest.approx(1, abs=1e-5)


def test_given_numbers_need_no_rows(fit_one):
    fitted = fit_one([Standardise(mean=2, std=4)], np.array([0.0]))

    assert fitted.apply({"x": np.array([10.0])})["x"].tolist() == [2]


@pytest.mark.parametrize("fields", [{"mean": 1.0}, {"std": 1.0}, {"mean": 0.0, "std": -1.0}])
def test_half_the_numbers_are_refused(fields):
    with pytest.raises(SchemaError, match="expected mean and std >= 0, or neither"):
        Standardise(**fields)
