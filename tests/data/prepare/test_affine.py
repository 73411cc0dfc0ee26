import numpy as np
import pytest

from shoal.base import SchemaError
from shoal.data.prepare import MinMax, Standardise


@pytest.mark.parametrize("dtype", ["uint8", "int64", "uint64", "float16", "float32", "float64", "bool"])
@pytest.mark.parametrize("operator", [Standardise(), MinMax()])
def test_every_type_of_number_gives_the_same_bits(fit_one, assert_same_bits, dtype, operator):
    rng = np.random.default_rng(1)
    big = {"int64": 2**62, "uint64": 2**63, "float64": 1e6}.get(dtype, 200)
    values = (rng.random(1_000) * big).astype(dtype)

    assert_same_bits(fit_one([operator], values), {"x": values})


def test_what_is_beyond_float32_is_infinite_on_both_sides(fit_one, assert_same_bits):
    fitted = fit_one([Standardise(mean=0, std=1e-10)], np.array([0.0]))

    assert assert_same_bits(fitted, {"x": np.array([1e35, -1e300, 0])})["x"].tolist() == [np.inf, -np.inf, 0]


def test_a_tensor_has_one_pair_of_numbers(fit_one, assert_same_bits):
    values = np.random.default_rng(1).random((50, 3, 2))

    found = assert_same_bits(fit_one([Standardise()], values), {"x": values})["x"]

    assert found.mean() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("operator", [Standardise(), MinMax()])
def test_equal_values_become_zeros(fit_one, assert_same_bits, operator):
    values = np.full(5, 7.25)

    assert assert_same_bits(fit_one([operator], values), {"x": values})["x"].tolist() == [0] * 5


@pytest.mark.parametrize("operator", [Standardise(), MinMax()])
def test_no_finite_value_teaches_nothing(fit_one, operator):
    with pytest.raises(SchemaError, match=r"cannot learn .* of column 'x'"):
        fit_one([operator], np.array([np.inf]))


def test_texts_are_refused(fit_one):
    with pytest.raises(SchemaError, match="cannot apply Standardise to column 'x' of type string"):
        fit_one([Standardise()], np.array(["a"], object))
