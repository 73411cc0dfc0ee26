from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from shoal.data import Column, Schema
from shoal.data.loading.piece_finder import PieceFinder
from shoal.data.loading.pieces import Piece
from shoal.data.loading.stored_columns import find_piece
from shoal.data.storage.shard import OpenBatch, ShardFile, write_shard

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
    return file_with(folder, columns, [*WIDE.names, "_hash"])


def file_with(folder: Path, columns: list[pa.Array], names: list[str]) -> ShardFile:
    path = folder / f"{len(list(folder.iterdir()))}.arrow"
    return ShardFile(path, write_shard(pa.RecordBatch.from_arrays(columns, names=names), path), WIDE)


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


def test_only_what_lies_otherwise_than_it_is_wanted_is_opened_by_arrow(tmp_path: Path) -> None:
    as_they_lie = PieceFinder([column for column in WIDE.columns if column.name != "kind"])
    with_long_text = PieceFinder(WIDE.columns)
    first, second = (wide_file(tmp_path, num_rows, with_nulls=False).open_batches[0] for num_rows in (20, 30))

    as_they_lie.find(first, 0)
    with_long_text.find(second, 0)

    assert ["batch" in opened.__dict__ for opened in (first, second)] == [False, True]


OTHERWISE = [
    (pa.array([1, 2], pa.timestamp("ms")), Column(name="x", dtype="timestamp")),
    (pa.array([1, 2], pa.timestamp("us", "UTC")), Column(name="x", dtype="timestamp")),
    (pa.array([[1], [2]], pa.list_(pa.int8())), Column(name="x", dtype="int16", is_list=True)),
    (pa.array([b"ab", b"cd"], pa.binary(2)), Column(name="x", dtype="binary")),
    (pa.array([None, None], pa.null()), Column(name="x", dtype="string", nullable=True)),
    (pa.array(["{}", "1"], pa.json_()), Column(name="x", dtype="string")),
]


@pytest.mark.parametrize(("array", "column"), OTHERWISE, ids=lambda given: str(getattr(given, "type", "")))
def test_other_types_than_a_column_is_stored_in_are_converted(tmp_path: Path, array: pa.Array, column: Column) -> None:
    opened = file_with(tmp_path, [array, pa.array([7, 8], pa.uint64())], ["x", "_hash"]).open_batches[0]

    (found,) = PieceFinder([column]).find(opened, 0)

    assert content(found) == content(find_piece(OpenBatch(opened.batch), column, 0))
    assert "batch" in opened.__dict__


@pytest.mark.parametrize(
    ("array", "shape"),
    [
        (pa.array([[1, 2], [3, 4]], pa.list_(pa.int16(), 2)), (2,)),
        (pa.array([[[1, 2]], [[3, 4]]], pa.list_(pa.list_(pa.int16(), 2), 1)), (1, 2)),
        (pa.array([1.5, 2.5], pa.float16()), ()),
        (pa.array([1.5, 2.5], pa.float64()), ()),
    ],
    ids=lambda given: str(getattr(given, "type", "")),
)
def test_lists_of_one_length_and_all_numbers_lie_as_they_are_wanted(
    tmp_path: Path, array: pa.Array, shape: tuple[int, ...]
) -> None:
    # Columns before it whose arrays count otherwise: a struct has one for itself, and a list one for its offsets.
    before = [pa.array([{"a": 1, "b": "c"}] * 2), pa.array([["d"], []]), pa.nulls(2)]
    opened = file_with(tmp_path, [*before, array, pa.array([7, 8], pa.uint64())], ["s", "l", "n", "x", "_hash"])
    column = Column(name="x", dtype="float64" if pa.types.is_floating(array.type) else "int32", shape=shape)

    (found,) = PieceFinder([column]).find(opened.open_batches[0], 1)

    assert "batch" not in opened.open_batches[0].__dict__
    assert content(found) == content(find_piece(OpenBatch(opened.open_batches[0].batch), column, 1))
