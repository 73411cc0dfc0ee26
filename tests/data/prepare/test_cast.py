import numpy as np
import pytest

from shoal.base import SchemaError
from shoal.data.prepare import Cast

LARGE = np.array([2**53 + 1, -(2**63), 2**24 + 1, 2**63 - 1, 33554435])


@pytest.mark.parametrize("values", [LARGE, LARGE.astype(np.uint64), np.array([1e-46, 0.1, 1e39, -1e300])])
def test_rounding_is_the_same_in_a_graph(fit_one, assert_same_bits, values):
    assert assert_same_bits(fit_one([Cast()], values), {"x": values})["x"].dtype == np.float32


def test_whole_numbers_become_int64(fit_one, assert_same_bits):
    values = np.array([True, False])

    assert assert_same_bits(fit_one([Cast("int64")], values), {"x": values})["x"].tolist() == [1, 0]


def test_a_float_is_not_cut_to_int64(fit_one):
    with pytest.raises(SchemaError, match="would depend on the machine"):
        fit_one([Cast("int64")], np.array([1.5]))
