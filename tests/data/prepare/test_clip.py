import numpy as np
import pytest

from shoal.base import SchemaError
from shoal.data.prepare import Clip


def test_nothing_lies_beyond_the_bounds(fit_one, assert_same_bits):
    values = np.array([-5, 0, 3, 9], np.int16)

    for operator, expected in (
        (Clip(0, 4), [0, 0, 3, 4]),
        (Clip(lower=-1), [-1, 0, 3, 9]),
        (Clip(upper=2.5), [-5, 0, 2.5, 2.5]),
    ):
        assert assert_same_bits(fit_one([operator], values), {"x": values})["x"].tolist() == expected


def test_bounds_are_learned_from_quantiles(fit_one, assert_same_bits):
    values = np.append(np.random.default_rng(0).normal(size=5_000), [1e9, -np.inf, np.inf])

    fitted = fit_one([Clip(quantiles=(0.01, 0.99))], values)

    (learned,) = fitted.plan.chains[0].operators
    assert learned.lower == pytest.approx(np.quantile(values, 0.01), rel=0.04)
    assert learned.upper == pytest.approx(np.quantile(values, 0.99), rel=0.04)
    assert np.isin(np.float32([learned.lower, learned.upper]), values.astype(np.float32)).all()
    assert_same_bits(fitted, {"x": values})


def test_infinite_values_are_no_bounds(fit_one):
    fitted = fit_one([Clip(quantiles=(0, 1))], np.array([-np.inf, 1, 2, np.inf]))

    (learned,) = fitted.plan.chains[0].operators
    assert (learned.lower, learned.upper) == (1, 2)


@pytest.mark.parametrize(
    "fields", [{}, {"lower": 2, "upper": 1}, {"lower": 0, "quantiles": (0.1, 0.9)}, {"quantiles": (0.9, 0.1)}]
)
def test_bounds_that_are_none_are_refused(fields):
    with pytest.raises(SchemaError, match="says no two bounds"):
        Clip(**fields)


def test_a_column_without_values_teaches_nothing(fit_one):
    with pytest.raises(SchemaError, match="cannot learn the quantiles of column 'x'"):
        fit_one([Clip(quantiles=(0.1, 0.9))], np.array([np.inf]))
