import datetime

import numpy as np
import pyarrow as pa
import pytest

from shoal.base import InputError, SchemaError
from shoal.data.quality import Allowed, Length, Matches, NotNull, Range, Where


def bad(check: object, array: pa.Array) -> list[bool]:
    return check.violations(pa.RecordBatch.from_arrays([array], ["x"])).tolist()  # type: ignore[attr-defined]  # a check


def test_not_null_finds_rows_without_a_value() -> None:
    assert bad(NotNull("x"), pa.array([1.0, None, float("nan")])) == [False, True, False]


@pytest.mark.parametrize(
    ("array", "low", "high", "expected"),
    [
        (pa.array([0, 5, 10, 11, None]), 0, 10, [False, False, False, True, False]),
        (pa.array([0, 1]), 0.5, None, [True, False]),
        (pa.array([0.5, float("nan")]), 0, None, [False, True]),
        (pa.array(["a", "m", "z"]), "b", "y", [True, False, True]),
        (pa.array([datetime.datetime(2020, 1, 1)], pa.timestamp("us")), "2021-01-01", None, [True]),
        (pa.array([[1, 2], [3, 9], None, []], pa.list_(pa.int64())), 0, 5, [False, True, False, False]),
        (pa.array([1, 200], pa.uint8()), None, 1_000, [False, False]),
        (pa.array([1, 2**53 + 1, None]), 1.5, float("inf"), [True, False, False]),
        (pa.array([0, 2**64 - 1], pa.uint64()), -1, 2**64 - 2, [False, True]),
        (pa.array([5, 2**63 - 1]), np.float64(5.5), None, [True, False]),
        (pa.array(np.array([0.5, 2], np.float16)), 0, 1, [False, True]),
    ],
)
def test_range_finds_values_outside(array: pa.Array, low: object, high: object, expected: list[bool]) -> None:
    assert bad(Range("x", low, high), array) == expected


def test_range_of_a_tensor_asks_every_number() -> None:
    tensors = pa.FixedShapeTensorArray.from_numpy_ndarray(np.arange(8, dtype=np.float32).reshape(2, 2, 2))

    assert bad(Range("x", 0, 3), tensors) == [False, True]


def test_allowed_values_of_the_columns_type() -> None:
    assert bad(Allowed("x", ["a", "b"]), pa.array(["a", "c", None])) == [False, True, False]
    assert bad(Allowed("x", [1, 2.5, 2**64]), pa.array([1, 2, None])) == [False, True, False]
    assert bad(Allowed("x", [0.0]), pa.array([-0.0, 1.0])) == [False, True]
    with pytest.raises(SchemaError, match="column 'x' of type int64"):
        bad(Allowed("x", ["a"]), pa.array([1]))
    with pytest.raises(SchemaError, match="column 'x' of type string"):
        bad(Range("x", 1), pa.array(["a"]))


def test_a_pattern_covers_the_whole_text() -> None:
    assert bad(Matches("x", "a+|b"), pa.array(["aa", "b", "ab", "aa\n", None])) == [False, False, True, True, False]
    with pytest.raises(SchemaError, match="RE2"):
        bad(Matches("x", "("), pa.array(["a"]))


def test_length_of_texts_blobs_and_lists() -> None:
    assert bad(Length("x", 1, 2), pa.array(["", "ä", "abc", None])) == [True, False, True, False]
    assert bad(Length("x", 2), pa.array([[1], [1, 2]], pa.list_(pa.int8()))) == [True, False]
    with pytest.raises(SchemaError, match="type is int64"):
        bad(Length("x", 1), pa.array([1]))


def test_a_function_of_your_own_judges_whole_batches() -> None:
    even = Where(lambda batch: batch.column("x").to_numpy() % 2 == 0, "an even x")

    assert bad(even, pa.array([1, 2, 3])) == [True, False, True]
    with pytest.raises(InputError, match="one bool per row"):
        bad(Where(lambda batch: np.zeros(7), "nothing"), pa.array([1, 2, 3]))


def test_a_range_without_borders_is_refused() -> None:
    with pytest.raises(InputError, match="no border"):
        Range("x")
