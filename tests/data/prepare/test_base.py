import numpy as np
import pytest

from shoal.base import SchemaError
from shoal.data import Column
from shoal.data.prepare.base import Operator, as_float32, check_increasing, check_number, single
from shoal.data.prepare.forms import OPERATORS


def test_numbers_are_rounded_once_to_float32():
    assert single(0.1) == float(np.float32(0.1))
    assert single(1e300) == float("inf")
    assert str(single(-0.0)) == "0.0"


def test_values_of_the_right_type_are_not_copied():
    values = np.ones(3, np.float32)

    assert as_float32(values) is values


def test_a_column_that_does_not_fit_is_named():
    with pytest.raises(SchemaError, match=r"column 'city' of type string.*Encode or HashBucket"):
        check_number(Column(name="city", dtype="string"), "Clip")
    with pytest.raises(SchemaError, match=r"column 'x' of shape \[2\]"):
        check_number(Column(name="x", dtype="int8", shape=(2,)), "Bucketise", scalar=True)


@pytest.mark.parametrize("numbers", [(1, 1), (2, 1), (0, float("nan"))])
def test_borders_grow(numbers):
    with pytest.raises(SchemaError, match="must be increasing"):
        check_increasing(numbers, "borders")


def test_an_operator_that_learns_nothing_asks_for_nothing():
    silent = [kind for kind in OPERATORS.values() if kind.need is Operator.need]

    assert {kind.name for kind in silent} == {"cast", "log1p", "scale_image"}
    for kind in silent:
        with pytest.raises(NotImplementedError):
            kind().learned(None, None)
        with pytest.raises(NotImplementedError):
            kind().passed_on(None)
