import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from shoal.base import SchemaError
from shoal.data.columns import conform, decode, encode, reordered
from shoal.data.layout import Layout
from shoal.data.schema import NUMBERS, Column, Schema, schema_from_arrow


@given(data=st.data(), dtype=st.sampled_from(sorted(NUMBERS)), shape=st.sampled_from([(), (2,), (2, 3)]))
@settings(deadline=None, max_examples=30)
def test_numbers_come_back_from_any_slice(data: st.DataObject, dtype: str, shape: tuple[int, ...]) -> None:
    column = Column(name="x", dtype=dtype, shape=shape)
    values = data.draw(hnp.arrays(dtype, (data.draw(st.integers(0, 20)), *shape)))
    start = data.draw(st.integers(0, len(values)))

    array = encode(decode(pa.array(values), column), column) if not shape else tensor(values)
    decoded = decode(array.slice(start), column)

    assert decoded.valid is None
    np.testing.assert_array_equal(decoded.values, values[start:])


def tensor(values: np.ndarray) -> pa.Array:
    if len(values) == 0:
        return pa.array([], pa.fixed_shape_tensor(pa.from_numpy_dtype(values.dtype), values.shape[1:]))
    return pa.FixedShapeTensorArray.from_numpy_ndarray(np.ascontiguousarray(values))


@given(values=st.lists(st.one_of(st.none(), st.integers(-5, 5)), max_size=30), start=st.integers(0, 30))
@settings(deadline=None, max_examples=25)
def test_nulls_become_zeros_and_a_mask(values: list[int | None], start: int) -> None:
    decoded = decode(pa.array(values, pa.int64()).slice(start), Column(name="x", dtype="int64"))

    assert decoded.values.tolist() == [value or 0 for value in values[start:]]
    if decoded.valid is not None:
        assert decoded.valid.tolist() == [value is not None for value in values[start:]]


def test_null_tensors_keep_their_rows() -> None:
    column = Column(name="x", dtype="uint8", shape=(2,))
    storage = pa.array([[1, 2], None, [3, 4]], pa.list_(pa.uint8(), 2))
    array = pa.ExtensionArray.from_storage(column.arrow_type(), storage)

    decoded = decode(array.slice(1), column)

    assert decoded.values.tolist() == [[0, 0], [3, 4]]
    assert decoded.valid is not None
    assert decoded.valid.tolist() == [False, True]


def test_fixed_columns_are_views_of_their_memory() -> None:
    array = pa.array(np.arange(10))

    decoded = decode(array, Column(name="x", dtype="int64"))

    assert not decoded.values.flags.owndata


@pytest.mark.parametrize(
    ("array", "dtype"),
    [
        (pa.array([5, None, 7, 8], pa.int32()), "int32"),
        (pa.array(["a", None, "", "dd"]), "string"),
        (pa.array([b"a", b"b", None, b""]), "binary"),
        (pa.array([True, None, False, True]), "bool"),
        (pa.array([1, 2, 3, 4], pa.timestamp("us")), "timestamp"),
    ],
)
def test_reordering_there_and_back_gives_the_same_bytes(array: pa.Array, dtype: str) -> None:
    column = Column(name="x", dtype=dtype)
    order = np.array([2, 0, 3, 1])

    once = reordered(array, column, order)
    again = reordered(reordered(once, column, np.argsort(order)), column, order)

    assert once.to_pylist() == [array[int(place)].as_py() for place in order]
    assert file_bytes(once) == file_bytes(again)


def test_a_column_without_its_nulls_looks_as_if_it_never_had_any() -> None:
    column = Column(name="x", dtype="string")
    with_null, without = pa.array(["a", None, "b"]), pa.array(["a", "b"])

    assert file_bytes(reordered(with_null, column, np.array([0, 2]))) == file_bytes(
        reordered(without, column, np.array([0, 1]))
    )


def file_bytes(array: pa.Array) -> bytes:
    sink = pa.BufferOutputStream()
    batch = pa.RecordBatch.from_arrays([array], names=["x"])
    with pa.ipc.new_file(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return bytes(sink.getvalue())


def test_conform_brings_columns_into_order_and_type() -> None:
    wanted = schema_from_arrow(pa.schema([("n", pa.list_(pa.float32(), 2)), ("s", pa.string())]))
    given_batch = pa.RecordBatch.from_pydict(
        {"s": pa.array(["a", "b"]).dictionary_encode(), "n": pa.array([[1, 2], [3, 4]], pa.list_(pa.float32(), 2))}
    )

    batch = conform(given_batch, wanted)

    assert batch.schema.names == ["n", "s"]
    assert batch.column("n").to_numpy_ndarray().tolist() == [[1, 2], [3, 4]]
    assert batch.column("s").to_pylist() == ["a", "b"]


def test_conform_names_the_column_whose_values_do_not_fit() -> None:
    wanted = schema_from_arrow(pa.schema([("when", pa.timestamp("us"))]))
    late = pa.RecordBatch.from_pydict({"when": pa.array([2**62], pa.timestamp("s"))})

    with pytest.raises(SchemaError, match="column 'when'"):
        conform(late, wanted)


def test_a_stored_batch_is_read_by_the_ids_of_its_columns() -> None:
    wanted = Schema(
        (
            Column(name="age", dtype="int64", id=0),
            Column(name="city", dtype="string", nullable=True, id=1),
            Column(name="image", dtype="uint8", shape=(2,), nullable=True, id=2),
        )
    )
    stored = pa.RecordBatch.from_pydict({"years": pa.array([3, 4], pa.int8())})

    batch = conform(stored, wanted, Layout(((0, "years"),)))

    assert batch.column("age").to_pylist() == [3, 4]
    assert batch.column("city").to_pylist() == [None, None]
    assert batch.column("image").null_count == 2
