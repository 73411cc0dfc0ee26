from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from shoal.data import Column, Schema
from shoal.data.layout import Layout
from shoal.data.loading.stored_columns import Piece, PieceFinder, find_piece
from shoal.data.storage.shard import OpenBatch, ShardFile, address_of, write_shard


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


WIDE = Schema(
    (
        Column(name="image", dtype="uint8", shape=(2, 3)),
        Column(name="n", dtype="int32", nullable=True),
        Column(name="widened", dtype="int64"),
        Column(name="flag", dtype="bool", nullable=True),
        Column(name="text", dtype="string", nullable=True),
        Column(name="blob", dtype="binary"),
        Column(name="tags", dtype="int16", is_list=True),
        Column(name="when", dtype="timestamp"),
        Column(name="kind", dtype="string"),
    )
)


def wide_file(folder: Path, num_rows: int, *, with_nulls: bool) -> ShardFile:
    rng = np.random.default_rng(num_rows)
    null = rng.random(num_rows) < (0.5 if with_nulls else 0)
    columns = [
        pa.FixedShapeTensorArray.from_numpy_ndarray(rng.integers(0, 9, (num_rows, 2, 3), dtype=np.uint8)),
        pa.array(rng.integers(0, 9, num_rows, dtype=np.int32), mask=null),
        pa.array(rng.integers(0, 9, num_rows, dtype=np.int8)),
        pa.array(rng.random(num_rows) < 0.5, mask=null),
        pa.array([f"text {row}" for row in range(num_rows)], mask=null),
        pa.array([b"blob" * (row % 3) for row in range(num_rows)]),
        pa.array([[row] * (row % 4) for row in range(num_rows)], pa.list_(pa.int16())),
        pa.array(rng.integers(0, 9, num_rows), pa.timestamp("us")),
        pa.array(["a", "b"] * num_rows).slice(0, num_rows).cast(pa.large_string()),
        pa.array(np.arange(num_rows, dtype=np.uint64)),
    ]
    path = folder / f"{num_rows}-{with_nulls}.arrow"
    batch = pa.RecordBatch.from_arrays(columns, names=[*WIDE.names, "_hash"])
    return ShardFile(path, write_shard(batch, path), WIDE)


def content(piece: Piece) -> list[object]:
    arrays = [piece.values, piece.items, piece.valid]
    return [piece.kind, piece.dtype, piece.first_bit, *(None if a is None else (a.shape, a.tobytes()) for a in arrays)]


@pytest.mark.parametrize("start", [0, 3])
def test_what_is_known_of_one_file_finds_the_same_pieces_in_others_as_arrow_does(tmp_path: Path, start: int) -> None:
    finder = PieceFinder(WIDE.columns)
    for num_rows, with_nulls in [(50, False), (7, True), (8, True), (1_000, False), (65, True), (4, False)]:
        opened = wide_file(tmp_path, num_rows, with_nulls=with_nulls).open_batches[0]
        assert opened.body is not None

        found = finder.find(opened, start)

        expected = [find_piece(OpenBatch(opened.batch), column, start) for column in WIDE.columns]
        assert [content(piece) for piece in found] == [content(piece) for piece in expected]


def test_a_second_file_of_a_kind_is_not_opened_by_arrow(tmp_path: Path) -> None:
    schema = WIDE.select([name for name in WIDE.names if name != "kind"])
    finder = PieceFinder(schema.columns)
    first, second = (wide_file(tmp_path, num_rows, with_nulls=False).open_batches[0] for num_rows in (20, 30))

    finder.find(first, 0)
    finder.find(second, 0)

    assert ["batch" in opened.__dict__ for opened in (first, second)] == [True, False]
