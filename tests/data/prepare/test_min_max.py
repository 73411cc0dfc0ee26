import numpy as np
import pytest

from shoal.base import SchemaError
from shoal.data.prepare import MinMax


def test_the_training_rows_lie_between_zero_and_one(fit_one):
    fitted = fit_one([MinMax()], np.array([-2, 8, 3]))

    assert fitted.apply({"x": np.array([-2, 8, 3, 18])})["x"].tolist() == [0, 1, 0.5, 2]


def test_given_numbers_need_no_rows(fit_one):
    assert fit_one([MinMax(0, 10)], np.array([1])).apply({"x": np.array([5])})["x"].tolist() == [0.5]


@pytest.mark.parametrize("fields", [{"low": 1.0}, {"high": 1.0}, {"low": 2.0, "high": 1.0}])
def test_half_the_numbers_are_refused(fields):
    with pytest.raises(SchemaError, match="expected low <= high, or neither"):
        MinMax(**fields)
