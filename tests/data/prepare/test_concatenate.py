import numpy as np
import pytest

from shoal.base import SchemaError
from shoal.data import Column, Preparation
from shoal.data.prepare import Cast, Concatenate

BATCH = {"a": np.array([1, 2]), "b": np.arange(8.0).reshape(2, 2, 2), "c": np.array([True, False])}


def test_columns_stand_side_by_side(assert_same_bits):
    preparation = Preparation({"a": [Cast("int64")], "b": [Cast()], "c": [], "v": Concatenate(["c", "b", "a"])})

    found = assert_same_bits(preparation.fit([BATCH]), BATCH)

    assert found["v"].tolist() == [[1, 0, 1, 2, 3, 1], [0, 4, 5, 6, 7, 2]]
    assert set(found) == {"v"}


def test_the_parts_may_be_kept(assert_same_bits):
    preparation = Preparation({"a": [Cast()], "c": [], "v": Concatenate(["a", "c"], keep=True)}, drop=["b"])

    assert set(assert_same_bits(preparation.fit([BATCH]), BATCH)) == {"a", "c", "v"}


def test_a_part_that_is_no_number_is_refused():
    with pytest.raises(SchemaError, match="cannot apply Concatenate to column 't'"):
        Concatenate(["t"]).output("v", [Column(name="t", dtype="string")])
    with pytest.raises(SchemaError, match="'n': some of its rows have no value"):
        Concatenate(["n"]).output("v", [Column(name="n", dtype="int8", nullable=True)])


@pytest.mark.parametrize("columns", [[], ["a", "a"]])
def test_each_column_stands_once(columns):
    with pytest.raises(SchemaError, match="expected at least one column, each once"):
        Concatenate(columns)
