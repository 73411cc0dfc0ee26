import numpy as np
import pyarrow as pa
import pytest

from shoal.base import SchemaError
from shoal.data.quality.conversion import converted, declared_schema
from shoal.data.schema import Column, Schema, parse_column


@pytest.mark.parametrize(
    ("array", "text", "expected"),
    [
        (pa.array([1, 300, None]), "uint8", [1, "bad", None]),
        (pa.array([1.0, 1.5, 2.0**60]), "int64", [1, "bad", 2**60]),
        (pa.array(["1", " 2", "x", None]), "int32", [1, 2, "bad", None]),
        (pa.array([0.5, 0.1, float("nan")]), "float32", [0.5, "bad", "nan"]),
        (pa.array([2**53 + 1, 7]), "float64", ["bad", 7.0]),
        (pa.array([1, 2]), "string", ["bad", "bad"]),
        (pa.array(["0.1"]), "float32", [np.float32(0.1)]),
        (pa.array(["true", "no"]), "bool", [True, "bad"]),
        (pa.array(["a", "b"]).dictionary_encode(), "string", ["a", "b"]),
    ],
)
def test_what_converts_exactly_does_and_the_rest_is_named(array: pa.Array, text: str, expected: list[object]) -> None:
    found, bad = converted(array, parse_column("x", text))

    shown = ["nan" if value != value else value for value in found.to_pylist()]
    flags = [False] * len(array) if bad is None else bad.tolist()
    assert ["bad" if is_bad else value for value, is_bad in zip(shown, flags, strict=True)] == expected


def test_a_few_bad_rows_among_many_are_found() -> None:
    texts = [str(number) for number in range(10_000)]
    for row in (0, 4_321, 9_999):
        texts[row] = "?"

    found, bad = converted(pa.array(texts), parse_column("x", "int64"))

    assert bad is not None
    assert np.flatnonzero(bad).tolist() == [0, 4_321, 9_999]
    assert found[5_000].as_py() == 5_000


def test_lists_of_the_right_length_become_tensors() -> None:
    lists = pa.array([[1, 2, 3, 4], [1, 2], None, [1, 2, 3, 400]])

    found, bad = converted(lists, Column(name="x", dtype="uint8", shape=(2, 2)))

    assert bad is not None
    assert bad.tolist() == [False, True, False, True]
    assert found.storage.to_pylist()[0] == [1, 2, 3, 4]
    assert found.is_valid().to_pylist() == [True, False, False, False]


def test_a_schema_is_declared_by_types_in_words() -> None:
    schema = declared_schema({"age": "int64", "image": "uint8[2, 2]"})

    assert schema is not None
    assert [str(column) for column in schema.columns] == ["age: int64 or null", "image: uint8[2, 2] or null"]
    assert declared_schema(Schema(schema.columns)) == schema
    with pytest.raises(SchemaError, match="'nonsense'"):
        declared_schema({"age": "nonsense"})
