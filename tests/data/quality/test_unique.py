import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from shoal.base import InputError
from shoal.data.quality import Unique, unique
from shoal.data.quality.unique import SeenKeys
from shoal.data.schema import schema_from_arrow


def repeated(columns: dict[str, pa.Array], folder: Path, size: int = 3) -> list[int]:
    batch = pa.RecordBatch.from_pydict(columns)
    seen = SeenKeys(Unique(*columns), schema_from_arrow(batch.schema), folder)
    for start in range(0, batch.num_rows, size):
        seen.add(batch.slice(start, size), start)
    return seen.repeated().tolist()


def test_the_first_row_of_a_key_is_good_and_the_others_are_not(tmp_path: Path) -> None:
    assert repeated({"x": pa.array(["a", "b", "a", "c", "b", "a"])}, tmp_path) == [2, 4, 5]


def test_keys_of_several_columns_are_compared_together(tmp_path: Path) -> None:
    assert repeated({"x": pa.array([1, 1, 2, 1]), "y": pa.array(["a", "b", "a", "b"])}, tmp_path) == [3]


def test_nulls_are_not_compared_and_nan_is_itself(tmp_path: Path) -> None:
    assert repeated({"x": pa.array([None, None, math.nan, math.nan, 0.0])}, tmp_path) == [3]


def test_different_keys_with_one_hash_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unique, "row_hashes", lambda batch, schema, key: np.full(batch.num_rows, 7, np.uint64))

    assert repeated({"x": pa.array(["a", "b", "a", "b", "c", "b"])}, tmp_path) == [2, 3, 5]


def test_many_keys_are_sorted_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unique, "_RUN_BYTES", 2_000)
    monkeypatch.setattr(unique, "_RANGE_BYTES", 1_000)
    values = np.random.default_rng(0).integers(0, 700, 1_000)

    found = repeated({"x": pa.array(values)}, tmp_path, size=50)

    _, firsts = np.unique(values, return_index=True)
    assert found == sorted(set(range(1_000)) - set(firsts.tolist()))
    assert list(tmp_path.iterdir())


def test_no_column_at_all_is_refused() -> None:
    with pytest.raises(InputError, match="no column"):
        Unique()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_both_zeros_and_all_nan_are_one_key(tmp_path: Path, dtype: type) -> None:
    other_nan = np.array([0xFFF8000000000001], np.uint64).view(np.float64)
    values = np.concatenate([np.array([0.0, 1.0, -0.0, math.nan]), other_nan]).astype(dtype)

    assert repeated({"x": pa.array(values)}, tmp_path) == [2, 4]


def test_tensors_with_both_zeros_are_one_key(tmp_path: Path) -> None:
    tensors = pa.FixedShapeTensorArray.from_numpy_ndarray(np.array([[0.0, 1.0], [-0.0, 1.0], [0.0, 2.0]]))

    assert repeated({"x": tensors}, tmp_path) == [1]
