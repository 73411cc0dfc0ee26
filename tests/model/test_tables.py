import numpy as np
import pyarrow as pa
import pytest

from shoal.base import InputError
from shoal.model.tables import arrays_to_bytes, read_arrays, repeat_rows, row_batches, to_arrays, to_batch


@pytest.mark.parametrize("dtype", ["uint8", "int64", "float16", "float32", "float64"])
@pytest.mark.parametrize("shape", [(5,), (5, 3), (5, 2, 3)])
def test_arrays_survive_arrow(dtype, shape):
    array = np.arange(np.prod(shape)).reshape(shape).astype(dtype)

    found = to_arrays(to_batch({"a": array}))["a"]

    assert found.dtype == array.dtype
    np.testing.assert_array_equal(found, array)


def test_arrays_survive_a_file(tmp_path):
    arrays = {"image": np.zeros((3, 2, 2), np.uint8), "flag": np.array([True, False, True])}
    (tmp_path / "rows.arrow").write_bytes(arrays_to_bytes(arrays))

    found = read_arrays(tmp_path / "rows.arrow")

    assert list(found) == list(arrays)
    np.testing.assert_array_equal(found["flag"], arrays["flag"])


def test_a_strided_array_keeps_its_values():
    array = np.arange(24).reshape(4, 6)[::2, ::3]

    np.testing.assert_array_equal(to_arrays(to_batch({"a": array}))["a"], array)


@pytest.mark.parametrize("num_rows", [1, 2, 3, 7])
def test_rows_repeat_in_order(num_rows):
    found = repeat_rows({"a": np.array([[0, 0], [1, 1], [2, 2]])}, num_rows)["a"]

    np.testing.assert_array_equal(found[:, 0], np.arange(num_rows) % 3)


def test_a_missing_value_is_named_by_its_column():
    class Holed:
        address = "holed@1"

        def batches(self, columns, batch_rows):
            yield pa.RecordBatch.from_pydict({"age": pa.array([1, None, 3])})

    with pytest.raises(InputError, match="'age' of holed@1"):
        list(row_batches(Holed(), ["age"], 8))


def test_gaps_come_with_masks_where_they_may(tmp_path):
    import shoal.data

    table = pa.table({"n": pa.array([1, None]), "t": ["a", None], "f": [True, None]})
    dataset = shoal.data.ingest(table, tmp_path / "gaps")

    (found,) = row_batches(dataset, ["n", "t", "f"], 10, masked=["n", "t", "f"])

    order = np.argsort(~found["n_mask"])
    assert [found[name][order].tolist() for name in ("n", "t", "f")] == [[1, 0], ["a", ""], [True, False]]
    assert found["n"].dtype == np.int64
    assert found["t_mask"][order].tolist() == [True, False]
    with pytest.raises(InputError, match=r"column 'n' of .* has no value in 1 of 2 rows"):
        list(row_batches(dataset, ["n"], 10))
