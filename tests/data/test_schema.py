import pyarrow as pa
import pytest

from shoal.base import SchemaError
from shoal.data import Column, Schema
from shoal.data.schema import schema_from_arrow


@pytest.mark.parametrize(
    ("arrow_type", "dtype", "shape"),
    [
        (pa.uint8(), "uint8", ()),
        (pa.float16(), "float16", ()),
        (pa.bool_(), "bool", ()),
        (pa.large_string(), "string", ()),
        (pa.string_view(), "string", ()),
        (pa.binary(4), "binary", ()),
        (pa.dictionary(pa.int8(), pa.string()), "string", ()),
        (pa.timestamp("ns", "Europe/Paris"), "timestamp", ()),
        (pa.date32(), "timestamp", ()),
        (pa.fixed_shape_tensor(pa.uint8(), (28, 28)), "uint8", (28, 28)),
        (pa.list_(pa.list_(pa.float32(), 3), 2), "float32", (2, 3)),
    ],
)
def test_maps_arrow_types(arrow_type: pa.DataType, dtype: str, shape: tuple[int, ...]) -> None:
    column = schema_from_arrow(pa.schema([("x", arrow_type)]))["x"]

    assert (column.dtype, column.shape) == (dtype, shape)


@pytest.mark.parametrize(
    "arrow_type",
    [
        pa.list_(pa.int8()),
        pa.struct([("a", pa.int8())]),
        pa.decimal128(5, 2),
        pa.null(),
        pa.list_(pa.string(), 2),
        pa.list_(pa.int8(), 0),
        pa.fixed_shape_tensor(pa.int8(), (2, 3), permutation=[1, 0]),
    ],
)
def test_names_the_column_it_cannot_store(arrow_type: pa.DataType) -> None:
    with pytest.raises(SchemaError, match="column 'odd'"):
        schema_from_arrow(pa.schema([("odd", arrow_type)]))


@pytest.mark.parametrize("names", [("a", "a"), ("_hash",)])
def test_refuses_names_that_clash(names: tuple[str, ...]) -> None:
    with pytest.raises(SchemaError, match="unique"):
        Schema(tuple(Column(name=name, dtype="int8") for name in names))


def test_an_unknown_column_is_answered_with_the_known_ones() -> None:
    schema = Schema((Column(name="image", dtype="uint8"),))

    with pytest.raises(SchemaError, match="no column 'imgae'; the columns are image"):
        schema.select(["imgae"])


def test_widening_joins_nulls_and_ignores_order() -> None:
    left = Schema((Column(name="a", dtype="int8"), Column(name="b", dtype="int8", nullable=True)))
    right = Schema((Column(name="b", dtype="int8"), Column(name="a", dtype="int8", nullable=True)))

    assert [str(column) for column in left.widened(right).columns] == ["a: int8 or null", "b: int8 or null"]


def test_widening_refuses_another_type_and_shows_both() -> None:
    left = Schema((Column(name="a", dtype="int8", shape=(2, 2)),))

    with pytest.raises(SchemaError, match=r"found \['a: int16'\] where \['a: int8\[2, 2\]'\] is expected"):
        left.widened(Schema((Column(name="a", dtype="int16"),)))


def test_survives_the_way_through_arrow() -> None:
    schema = Schema((Column(name="a", dtype="float32", shape=(3,)), Column(name="t", dtype="timestamp")))

    assert schema_from_arrow(schema.arrow()) == schema
