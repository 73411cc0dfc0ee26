from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest

from shoal.base import SourceError
from shoal.data.hashing import row_hashes
from shoal.data.schema import schema_from_arrow

Rows = dict[str, np.ndarray]


def hashes(batch: pa.RecordBatch, key: str | None = None) -> list[int]:
    return row_hashes(batch, schema_from_arrow(batch.schema), key).tolist()


def test_is_the_same_in_every_release() -> None:
    batch = pa.RecordBatch.from_pydict({"x": pa.array([1, 2]), "t": pa.array(["a", None])})

    assert hashes(batch, key="x") == [3439722301264460078, 2343778756980564547]
    assert hashes(batch) == [4445267623288997262, 2977467599069728776]


def test_a_row_does_not_depend_on_its_neighbours(
    make_rows: Callable[..., Rows], to_batch: Callable[[Rows], pa.RecordBatch]
) -> None:
    batch = to_batch(make_rows(100))

    assert hashes(batch.slice(30, 10)) == hashes(batch)[30:40]
    assert len(set(hashes(batch))) == 100


def test_a_key_decides_alone_and_may_change_its_width() -> None:
    narrow = pa.RecordBatch.from_pydict({"user": pa.array([7, 8], pa.int16()), "x": pa.array([1, 2])})
    wide = pa.RecordBatch.from_pydict({"user": pa.array([7, 8], pa.int64()), "x": pa.array([3, 4])})

    assert hashes(narrow, key="user") == hashes(wide, key="user")


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ({"a": ["ab"], "b": ["c"]}, {"a": ["a"], "b": ["bc"]}),
        ({"a": [None], "b": ["x"]}, {"a": [""], "b": ["x"]}),
        ({"a": [0]}, {"a": pa.array([None], pa.int64())}),
    ],
)
def test_rows_that_differ_hash_differently(left: dict[str, object], right: dict[str, object]) -> None:
    strings = pa.schema([(name, pa.string() if name in right and len(right) > 1 else pa.int64()) for name in left])

    found = [hashes(pa.RecordBatch.from_pydict(rows, schema=strings))[0] for rows in (left, right)]

    assert found[0] != found[1]


def test_an_all_null_batch_hashes_as_part_of_a_larger_one_does() -> None:
    whole = pa.RecordBatch.from_pydict({"x": pa.array([1, None, None]), "t": pa.array(["a", None, None])})

    assert hashes(whole.slice(1)) == hashes(whole)[1:]


def test_names_the_row_without_a_key() -> None:
    batch = pa.RecordBatch.from_pydict({"user": pa.array(["a", None])})

    with pytest.raises(SourceError, match="'user': row 1"):
        hashes(batch, key="user")


@pytest.mark.parametrize("arrow_type", [pa.float16(), pa.float32(), pa.float64(), pa.list_(pa.float32())])
def test_floats_that_count_as_equal_are_one_key(arrow_type: pa.DataType) -> None:
    other_nan = np.array([0xFFF8000000000001], np.uint64).view(np.float64)[0]
    floats = np.array([0.0, -0.0, np.nan, other_nan, 1.0])
    number = arrow_type.value_type if pa.types.is_list(arrow_type) else arrow_type
    values = pa.array(floats.astype(number.to_pandas_dtype()), number)
    if pa.types.is_list(arrow_type):
        values = pa.ListArray.from_arrays(pa.array(range(6), pa.int32()), values)
    batch = pa.RecordBatch.from_arrays([values], ["x"])

    keyed = hashes(batch, key="x")

    assert keyed[0] == keyed[1]
    assert keyed[2] == keyed[3]
    assert len({keyed[0], keyed[2], keyed[4]}) == 3
    # Content is kept bit by bit, and so are its hashes.
    assert hashes(batch)[0] != hashes(batch)[1]
