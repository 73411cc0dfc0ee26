import operator
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from shoal.data.comparison import among, compared

OPERATORS = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
NEAR = [0, 1, 2**7, 2**8, 2**24, 2**31, 2**32, 2**53, 2**63, 2**64, 10**400]
NUMBERS = (
    st.integers()
    | st.floats()
    | st.sampled_from(NEAR).flatmap(lambda near: st.integers(near - 2, near + 2))
    | st.sampled_from(NEAR[:-1]).map(lambda near: -float(near) - 0.5)
)


def values_of(dtype: str) -> st.SearchStrategy[list[Any]]:
    limits = np.iinfo(dtype)
    near = [near for edge in NEAR for near in (edge - 1, edge, edge + 1) if limits.min <= near <= limits.max]
    one = st.integers(int(limits.min), int(limits.max)) | st.sampled_from([*near, int(limits.min), int(limits.max)])
    return st.lists(one | st.none(), max_size=5)


@given(data=st.data(), dtype=st.sampled_from(INTEGERS), number=NUMBERS)
def test_whole_numbers_compare_as_python_says(data: st.DataObject, dtype: str, number: float) -> None:
    values = data.draw(values_of(dtype))
    array = pa.array(values, getattr(pa, dtype)())

    for name, compare in OPERATORS.items():
        expected = [None if value is None else compare(value, number) for value in values]
        assert compared(array, name, number).to_pylist() == expected
    assert among(array, [number, 7]).to_pylist() == [None if each is None else each in (number, 7) for each in values]


@given(values=st.lists(st.floats() | st.none() | st.sampled_from([2.0**53, 2.0**63, -0.0]), max_size=5), number=NUMBERS)
@example(values=[1.7e308, float("inf"), float("-inf")], number=10**400)
@example(values=[float(2**53)], number=2**53 + 1)
def test_floats_compare_as_python_says(values: list[float | None], number: float) -> None:
    array = pa.array(values, pa.float64())

    for name, compare in OPERATORS.items():
        expected = [None if value is None else compare(value, number) for value in values]
        assert compared(array, name, number).to_pylist() == expected
    wanted = [None if value is None else value == number for value in values]
    assert among(array, [number]).to_pylist() == wanted


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@given(number=NUMBERS)
def test_narrow_floats_compare_as_numpy_says(dtype: str, number: float) -> None:
    values = np.array([0.1, -0.0, 1.0, 65_504.0, np.inf, -np.inf, np.nan], dtype)
    array = pa.array(values)

    stored = np.float64(values)
    near = (
        float(np.array(number, dtype))
        if isinstance(number, float) and abs(number) < {"float16": 60_000, "float32": 3e38}[dtype]
        else number
    )
    for name, compare in OPERATORS.items():
        expected = [compare(float(value), near) for value in stored]
        assert compared(array, name, number).to_pylist() == expected


def test_a_float_finds_what_was_stored_for_it() -> None:
    array = pa.array([0.1], pa.float32())

    assert compared(array, "==", 0.1).to_pylist() == compared(array, "<=", 0.1).to_pylist() == [True]
    assert among(array, [0.1]).to_pylist() == [True]
