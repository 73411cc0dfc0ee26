import numpy as np
import pyarrow as pa
import pytest

from shoal.base import InputError, SchemaError
from shoal.data.sampling import classes as classes_module
from shoal.data.sampling.classes import count_classes, label_column
from shoal.data.schema import Column, Schema

TEXT = Column(name="label", dtype="string", nullable=True)


def test_classes_stand_in_order_whatever_came_first() -> None:
    parts = [pa.array(["b", None, "c"]), pa.array(["a", "b"])]

    counted = count_classes(parts, TEXT)

    assert counted.values.to_pylist() == ["a", "b", "c", None]
    assert counted.counts.tolist() == [1, 2, 1, 1]
    assert counted.codes(pa.array(["c", None, "a"])).tolist() == [2, 3, 0]


def test_a_value_is_found_as_it_is_stored() -> None:
    counted = count_classes([pa.array([3, 1, 3])], Column(name="label", dtype="int64"))

    assert counted.code_of(np.int64(3).item()) == 1
    with pytest.raises(InputError, match=r"no row has label='3'; the classes are 1, 3"):
        counted.code_of("3")
    with pytest.raises(InputError, match="no row has label=2"):
        counted.code_of(2)


def test_a_column_of_all_different_values_is_no_label(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(classes_module, "MAX_CLASSES", 10)

    with pytest.raises(InputError, match="more than 10 distinct values"):
        count_classes([pa.array(range(11))], Column(name="id", dtype="int64"))


def test_tensors_and_blobs_are_no_label() -> None:
    schema = Schema((Column(name="image", dtype="uint8", shape=(2,)), Column(name="file", dtype="binary")))

    for name in schema.names:
        with pytest.raises(InputError, match="cannot group rows"):
            label_column(schema, name)
    with pytest.raises(SchemaError):
        label_column(schema, "label")


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_all_nan_are_one_class_and_so_are_both_zeros(dtype: str) -> None:
    column = Column(name="label", dtype=dtype, nullable=True)
    bits = {"float16": ("u2", 0x7E01), "float32": ("u4", 0x7FC00001), "float64": ("u8", 0x7FF8000000000001)}[dtype]
    other_nan = np.array([bits[1]], bits[0]).view(dtype)
    values = np.concatenate([np.array([1, np.nan, 0.0, -0.0, np.nan], dtype), other_nan])
    parts = [pa.array(values), pa.array(values[::-1].copy()), pa.nulls(2, column.arrow_type())]

    counted = count_classes(parts, column)

    assert counted.counts.tolist() == [4, 2, 6, 2]
    assert counted.values.to_pylist()[:2] == [0.0, 1.0]
    assert counted.codes(parts[0]).tolist() == [1, 2, 0, 0, 2, 2]
    assert counted.codes(parts[2]).tolist() == [3, 3]
    assert [counted.code_of(value) for value in (float("nan"), -0.0, 1, None)] == [2, 0, 1, 3]


def test_lists_are_no_label() -> None:
    with pytest.raises(InputError, match="cannot group rows"):
        label_column(Schema((Column(name="tags", dtype="int64", is_list=True),)), "tags")
