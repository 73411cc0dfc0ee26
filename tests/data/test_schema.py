import pyarrow as pa
import pytest

from shoal.base import InputError, SchemaError
from shoal.data import Column, Schema
from shoal.data.schema import EVOLVE_HINT, parse_column, schema_from_arrow


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
        pa.list_(pa.string()),
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


def test_another_way_out_is_told_only_where_there_is_one() -> None:
    left, right = (Schema((Column(name=name, dtype="int8"),)) for name in "ab")

    with pytest.raises(SchemaError) as plain:
        left.widened(right)
    with pytest.raises(SchemaError) as hinted:
        left.widened(right, hint=EVOLVE_HINT)

    assert "evolve" not in plain.value.next_step
    assert "evolve=True" in hinted.value.next_step


def test_survives_the_way_through_arrow() -> None:
    schema = Schema((Column(name="a", dtype="float32", shape=(3,)), Column(name="t", dtype="timestamp")))

    assert schema_from_arrow(schema.arrow()) == schema


@pytest.mark.parametrize("arrow_type", [pa.list_(pa.int16()), pa.large_list(pa.int16())])
def test_lists_of_numbers_may_have_any_length(arrow_type: pa.DataType) -> None:
    column = schema_from_arrow(pa.schema([("x", arrow_type)]))["x"]

    assert (column.dtype, column.shape, column.is_list, column.is_fixed) == ("int16", (), True, False)
    assert column.arrow_type() == pa.list_(pa.int16())


@pytest.mark.parametrize("text", ["int64", "string", "float32[28, 28]", "uint8[any]", "timestamp"])
def test_a_type_is_read_as_it_prints(text: str) -> None:
    column = parse_column("x", text)

    assert str(column) == f"x: {text} or null"
    assert parse_column("x", str(column).removeprefix("x: ")) == column


@pytest.mark.parametrize("text", ["", "int65", "string[3]", "float32[]", "float32[0]", "float32[any, 3]", "int64 or"])
def test_a_type_that_is_none_is_named(text: str) -> None:
    with pytest.raises(SchemaError, match="the types are int8, "):
        parse_column("x", text)


def test_ids_do_not_count_when_columns_are_compared() -> None:
    assert Column(name="x", dtype="int64", id=3) == Column(name="x", dtype="int64")


@pytest.mark.parametrize(
    ("column", "name"),
    [
        (Column(name="x", dtype="int8", nullable=True), "x_mask"),
        (Column(name="x", dtype="string"), "x_offsets"),
        (Column(name="x", dtype="binary"), "x_lengths"),
        (Column(name="x", dtype="int8", is_list=True), "x_offsets"),
    ],
)
def test_names_that_batches_need_themselves_are_refused(column: Column, name: str) -> None:
    other = Column(name=name, dtype="int64")

    with pytest.raises(SchemaError, match=f"{name!r} beside"):
        Schema((other, column))
    assert Schema((other, Column(name="x", dtype="int8"))).names == (name, "x")
    assert Schema((other, column)[:1]).names == (name,)


@pytest.mark.parametrize("names", ["ab", b"ab", 5])
def test_one_name_is_no_list_of_names(names: object) -> None:
    schema = Schema((Column(name="a", dtype="int64"), Column(name="b", dtype="int64")))

    with pytest.raises(InputError, match="must be a list of names"):
        schema.select(names)  # type: ignore[arg-type]  # what a user may write
