import numpy as np
import pytest

from shoal.base import SchemaError
from shoal.data.prepare import Bucketise


def test_a_value_at_a_border_is_above_it(fit_one, assert_same_bits):
    fitted = fit_one([Bucketise((0, 10, 20.5))], np.array([0.0]))

    found = assert_same_bits(fitted, {"x": np.array([-1, 0, 9.99, 10, 20.5, np.inf])})["x"]

    assert found.tolist() == [0, 1, 1, 2, 3, 3]


def test_learned_buckets_are_about_equal(fit_one, assert_same_bits):
    values = np.random.default_rng(0).lognormal(size=20_000).astype(np.float32)

    found = assert_same_bits(fit_one([Bucketise(num_buckets=4)], values), {"x": values})["x"]

    np.testing.assert_allclose(np.bincount(found), 5_000, rtol=0.1)


def test_repeated_values_make_fewer_buckets(fit_one):
    fitted = fit_one([Bucketise(num_buckets=10)], np.array([1, 1, 1, 1, 2]))

    (learned,) = fitted.plan.chains[0].operators
    assert learned.borders == (1, 2)


@pytest.mark.parametrize(
    "fields", [{}, {"borders": (1,), "num_buckets": 2}, {"num_buckets": 0}, {"num_buckets": 5_000}]
)
def test_both_or_neither_are_refused(fields):
    with pytest.raises(SchemaError, match="takes borders, or num_buckets"):
        Bucketise(**fields)


def test_borders_grow():
    with pytest.raises(SchemaError, match="must be increasing"):
        Bucketise((1, 1))


def test_tensors_are_refused(fit_one):
    with pytest.raises(SchemaError, match="expected one value a row"):
        fit_one([Bucketise((1,))], np.zeros((2, 2)))


def test_no_finite_value_teaches_nothing(fit_one):
    with pytest.raises(SchemaError, match="cannot learn the quantiles"):
        fit_one([Bucketise(num_buckets=3)], np.array([np.inf]))
