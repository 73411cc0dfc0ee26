import numpy as np
import pyarrow as pa
import pytest

from shoal.data import Column
from shoal.data.layout import Layout
from shoal.data.loading.stored_columns import find_piece
from shoal.data.storage.shard import OpenBatch, address_of


def opened(array: pa.Array, layout: Layout | None = None) -> OpenBatch:
    return OpenBatch(pa.RecordBatch.from_arrays([array], names=["x"]), layout)


def test_numbers_are_a_view_from_the_first_row_on() -> None:
    values = np.arange(10, dtype=np.int32)

    piece = find_piece(opened(pa.array(values)), Column(name="x", dtype="int32"), 3)

    assert piece.kind == "fixed"
    assert piece.values.view(np.int32).reshape(-1).tolist() == list(range(3, 10))
    assert address_of(piece.values) == address_of(values) + 12


@pytest.mark.parametrize("start", [0, 2])
@pytest.mark.parametrize("offset", [0, 3])
def test_tensors_and_slices_of_them_begin_where_they_should(start: int, offset: int) -> None:
    images = np.arange(60, dtype=np.uint16).reshape(10, 2, 3)
    array = pa.FixedShapeTensorArray.from_numpy_ndarray(images)[offset:]

    piece = find_piece(opened(array), Column(name="x", dtype="uint16", shape=(2, 3)), start)

    assert np.array_equal(piece.values.view(np.uint16).reshape(-1, 2, 3), images[offset + start :])


@pytest.mark.parametrize("offset", [0, 5])
def test_bits_say_where_they_begin(offset: int) -> None:
    flags = np.random.default_rng(0).random(40) < 0.5
    valid = np.random.default_rng(1).random(40) < 0.5
    array = pa.array(flags, mask=~valid)[offset:]

    piece = find_piece(opened(array), Column(name="x", dtype="bool", nullable=True), 2)

    found = np.unpackbits(piece.values, bitorder="little")[piece.first_bit :]
    assert piece.kind == "bits"
    assert piece.valid is not None
    assert np.array_equal(
        np.unpackbits(piece.valid, bitorder="little")[piece.first_bit :][: 38 - offset], valid[offset + 2 :]
    )
    assert np.array_equal(found[: 38 - offset][valid[offset + 2 :]], flags[offset + 2 :][valid[offset + 2 :]])


@pytest.mark.parametrize("offset", [0, 1])
@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.string_view()])
def test_text_of_any_arrow_type_has_offsets_of_32_bits(kind: pa.DataType, offset: int) -> None:
    rows = ["a", "", "ünder", None, "b"]

    piece = find_piece(opened(pa.array(rows, kind)[offset:]), Column(name="x", dtype="string", nullable=True), 1)

    assert piece.kind == "variable"
    assert piece.values.dtype == np.int32
    assert piece.items is not None
    texts = [piece.items[a:b].tobytes().decode() for a, b in zip(piece.values, piece.values[1:], strict=False)]
    assert texts == ["" if row is None else row for row in rows[offset + 1 :]]


@pytest.mark.parametrize("value", [pa.int16(), pa.int64()])
def test_lists_of_numbers_are_converted_only_when_their_type_differs(value: pa.DataType) -> None:
    array = pa.array([[1, 2], [], [3]], pa.list_(value))

    piece = find_piece(opened(array), Column(name="x", dtype="int16", is_list=True), 0)

    assert piece.dtype == np.int16
    assert piece.values.tolist() == [0, 2, 2, 3]
    assert piece.items is not None
    assert piece.items.view(np.int16)[:3].tolist() == [1, 2, 3]


def test_a_column_that_came_later_is_absent_and_null_in_every_row() -> None:
    earlier = opened(pa.array([1, 2, 3]), Layout(((0, "x"),)))

    number = find_piece(earlier, Column(name="y", dtype="int64", nullable=True, id=1), 1)
    text = find_piece(earlier, Column(name="z", dtype="string", nullable=True, id=2), 1)

    assert (number.kind, text.kind) == ("absent", "variable")
    assert text.values.tolist() == [0, 0, 0]
    for piece in (number, text):
        assert piece.valid is not None
        assert not piece.valid.any()


def test_a_number_that_was_narrower_keeps_its_stored_type() -> None:
    piece = find_piece(opened(pa.array([1, 2], pa.int8())), Column(name="x", dtype="int64"), 0)

    assert (piece.kind, piece.dtype) == ("fixed", np.int8)
