import numpy as np
import pytest

from shoal.base import InputError, UnsupportedError
from shoal.model.estimators.example import read_example


def test_gaps_become_masks_and_a_row_with_one_is_always_taken(people):
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"a": [1.0, 2.0, 3.0, None], "b": ["x", "y", "z", "w"], "c": [1, 2, 3, 4]})

    example = read_example(["a", "b", "c"], frame, 2)

    arrays = example.arrays()
    assert arrays["a"].tolist() == [1.0, 0.0]
    assert arrays["a_mask"].tolist() == [True, False]
    assert arrays["b"].tolist() == ["x", "w"]
    assert "b_mask" not in arrays
    assert [column.dtype for column in example.columns] == ["float64", "string", "int64"]
    assert len(example.given) == 2


def test_types_of_pandas_own_are_taken():
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(
        {
            "whole": pd.array([1, None, 3], "Int64"),
            "truth": pd.array([True, None, False], "boolean"),
            "kind": pd.Categorical(["x", None, "y"]),
        }
    )

    arrays = read_example(None, frame, 10).arrays()

    assert arrays["whole"].tolist() == [1, 0, 3]
    assert arrays["whole"].dtype == np.int64
    assert arrays["truth"].dtype == np.bool_
    assert arrays["kind"].tolist() == ["x", "", "y"]
    assert arrays["kind_mask"].tolist() == [True, False, True]


def test_polars_frames_are_taken():
    pl = pytest.importorskip("polars")

    example = read_example(None, pl.DataFrame({"a": [1, None], "b": ["x", None]}), 10)

    assert example.arrays()["a_mask"].tolist() == [True, False]
    assert example.arrays()["b"].tolist() == ["x", ""]
    assert example.given.columns == ["a", "b"]


def test_arrays_with_masks_are_what_a_dataset_gives():
    pytest.importorskip("pandas")
    rows = {"a": np.array([1, 0]), "a_mask": np.array([True, False]), "b": np.array(["x", "y"], object), "z": [1, 2]}

    example = read_example(["b", "a"], rows, 10)

    assert list(example.given.columns) == ["b", "a"]
    assert np.isnan(example.given["a"].to_numpy()[1])
    assert example.arrays()["a"].tolist() == [1, 0]


def test_a_matrix_keeps_the_name_that_it_has():
    assert list(read_example(None, {"pixels": np.zeros((2, 3))}, 10).arrays()) == ["pixels"]
    assert read_example(None, [["a", "b"]], 10).columns[0].is_text


@pytest.mark.parametrize(
    ("names", "example", "error", "what"),
    [
        (["a"], np.zeros((2, 1)), InputError, "without column names"),
        (["a"], {"b": np.zeros(2)}, InputError, "lacks the column 'a'"),
        (None, {"a": np.zeros(2)}, InputError, "matrix"),
        (None, np.zeros(3), InputError, r"\[rows, features\]"),
        (None, np.zeros((0, 3)), InputError, "no rows"),
        (["a"], {"a": np.zeros((2, 2))}, UnsupportedError, "one value per row"),
        (["a"], {"a": np.array([object(), 1], object)}, UnsupportedError, "numbers or texts"),
    ],
)
def test_what_is_no_table_is_told(names, example, error, what):
    with pytest.raises(error, match=what):
        read_example(names, example, 10)
