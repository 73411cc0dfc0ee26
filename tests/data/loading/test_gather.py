from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shoal.base import CorruptError, InputError, SchemaError, UnsupportedError
from shoal.data import Column, Schema, native
from shoal.data.layout import Layout
from shoal.data.loading import gather as gather_module
from shoal.data.loading import packed as variable_module
from shoal.data.loading.buffers import Buffers
from shoal.data.loading.gather import RowGatherer, Stretch, stretches_of
from shoal.data.loading.packed import Packed
from shoal.data.storage.shard import OpenBatch, ShardFile, describe_shard, write_shard

SCHEMA = Schema(
    (
        Column(name="image", dtype="uint8", shape=(3, 5)),
        Column(name="label", dtype="int64"),
        Column(name="weight", dtype="float32", nullable=True),
        Column(name="flag", dtype="bool", nullable=True),
        Column(name="text", dtype="string", nullable=True),
        Column(name="blob", dtype="binary"),
        Column(name="tags", dtype="int16", is_list=True),
        Column(name="when", dtype="timestamp"),
    )
)


@pytest.fixture(params=["native", "pure"])
def loops(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Both ways of doing the inner loops."""
    if request.param == "pure":
        monkeypatch.setattr(native, "native", None)
    elif native.native is None:
        pytest.skip("this environment has no compiler")
    yield
    native.warn_if_absent.cache_clear()


def table_of(num_rows: int, seed: int = 0) -> pa.RecordBatch:
    rng = np.random.default_rng(seed)
    some = rng.random(num_rows) < 0.7
    images = rng.integers(0, 256, (num_rows, 3, 5), dtype=np.uint8)
    columns = [
        pa.FixedShapeTensorArray.from_numpy_ndarray(images),
        pa.array(rng.integers(0, 10**9, num_rows)),
        pa.array(rng.normal(size=num_rows).astype(np.float32), mask=~some),
        pa.array(rng.random(num_rows) < 0.5, mask=some),
        pa.array([f"ünder {index}" * (index % 4) if some[index] else None for index in range(num_rows)]),
        pa.array([rng.bytes(int(rng.integers(0, 40))) for _ in range(num_rows)]),
        pa.array([rng.integers(0, 9, int(rng.integers(0, 6))).tolist() for _ in range(num_rows)], pa.list_(pa.int16())),
        pa.array(rng.integers(0, 2**50, num_rows), pa.timestamp("us")),
        pa.array(np.arange(num_rows, dtype=np.uint64)),
    ]
    return pa.RecordBatch.from_arrays(columns, names=[*SCHEMA.names, "_hash"])


def files_of(folder: Path, tables: list[pa.RecordBatch], schema: Schema = SCHEMA) -> list[ShardFile]:
    paths = [folder / f"{index}.arrow" for index in range(len(tables))]
    return [ShardFile(path, write_shard(table, path), schema) for path, table in zip(paths, tables, strict=True)]


def gatherer_of(files: list[ShardFile], schema: Schema = SCHEMA) -> RowGatherer:
    return RowGatherer([part for file in files for part in stretches_of(file, 0, file.shard.num_rows)], schema)


def as_python(taken: dict[str, np.ndarray], schema: Schema) -> list[dict[str, object]]:
    def value(column: Column, index: int) -> object:
        mask = taken.get(f"{column.name}_mask")
        if mask is not None and not mask[index]:
            return None
        found = taken[column.name][index]
        return found if isinstance(found, str | bytes) else found.tolist()

    num_rows = len(taken[schema.names[0]])
    return [{column.name: value(column, index) for column in schema.columns} for index in range(num_rows)]


def expected_rows(tables: list[pa.RecordBatch], rows: np.ndarray) -> list[dict[str, object]]:
    table = pa.Table.from_batches(tables).drop_columns("_hash")
    images = np.concatenate([batch.column("image").to_numpy_ndarray() for batch in tables])
    whens = table.column("when").cast(pa.int64()).to_pylist()
    others = table.drop_columns(["image", "when"]).to_pylist()
    return [{**others[row], "image": images[row].tolist(), "when": whens[row]} for row in rows.tolist()]


@pytest.mark.usefixtures("loops")
@pytest.mark.parametrize("sizes", [[50], [7, 1, 30], [3] * 12])
def test_rows_of_every_kind_come_as_they_were_stored(tmp_path: Path, sizes: list[int]) -> None:
    tables = [table_of(size, seed) for seed, size in enumerate(sizes)]
    rows = np.random.default_rng(1).integers(0, sum(sizes), 40)

    taken = gatherer_of(files_of(tmp_path, tables)).take(rows)

    taken["when"] = taken["when"].astype(np.int64)
    assert [dict(sorted(row.items())) for row in as_python(taken, SCHEMA)] == [
        dict(sorted(row.items())) for row in expected_rows(tables, rows)
    ]


@pytest.mark.usefixtures("loops")
def test_a_stretch_that_begins_inside_a_file_counts_from_there(tmp_path: Path) -> None:
    tables = [table_of(20, 0), table_of(20, 1)]
    files = files_of(tmp_path, tables)
    gatherer = RowGatherer([*stretches_of(files[0], 5, 15), *stretches_of(files[1], 3, 20)], SCHEMA)
    rows = np.arange(27)

    taken = gatherer.take(rows)

    taken["when"] = taken["when"].astype(np.int64)
    places = np.concatenate([np.arange(5, 15), np.arange(23, 40)])
    assert gatherer.num_rows == 27
    assert [row["label"] for row in as_python(taken, SCHEMA)] == [row["label"] for row in expected_rows(tables, places)]
    assert [row["text"] for row in as_python(taken, SCHEMA)] == [row["text"] for row in expected_rows(tables, places)]


def test_null_rows_hold_zeros_whatever_the_file_holds_there(tmp_path: Path) -> None:
    schema = Schema((Column(name="x", dtype="int32", nullable=True),))
    array = pa.Array.from_buffers(pa.int32(), 3, [pa.py_buffer(b"\x05"), pa.py_buffer(np.array([1, 99, 3], np.int32))])
    batch = pa.RecordBatch.from_arrays([array], names=["x"])

    taken = RowGatherer([Stretch(lambda: OpenBatch(batch), 0, 3)], schema).take(np.arange(3))

    assert taken["x"].tolist() == [1, 0, 3]
    assert taken["x_mask"].tolist() == [True, False, True]


@pytest.mark.usefixtures("loops")
def test_files_of_other_types_and_names_are_read_together(tmp_path: Path) -> None:
    schema = Schema(
        (
            Column(name="age", dtype="int64", id=0),
            Column(name="city", dtype="string", nullable=True, id=1),
            Column(name="score", dtype="float32", nullable=True, id=2),
        )
    )
    old = pa.RecordBatch.from_pydict(
        {"years": pa.array([1, 2, 3], pa.int16()), "_hash": pa.array([1, 2, 3], pa.uint64())}
    )
    new = pa.RecordBatch.from_pydict(
        {
            "age": pa.array([4, 5]),
            "city": pa.array(["Oslo", None]),
            "score": pa.array([None, 0.5], pa.float32()),
            "_hash": pa.array([4, 5], pa.uint64()),
        }
    )
    layouts = [Layout(((0, "years"),)), Layout(((0, "age"), (1, "city"), (2, "score")))]
    files = [
        ShardFile(path, write_shard(batch, path), schema, layout)
        for path, batch, layout in zip([tmp_path / "a", tmp_path / "b"], [old, new], layouts, strict=True)
    ]

    taken = gatherer_of(files, schema).take(np.array([4, 0, 3, 1]))

    assert as_python(taken, schema) == [
        {"age": 5, "city": None, "score": 0.5},
        {"age": 1, "city": None, "score": None},
        {"age": 4, "city": "Oslo", "score": None},
        {"age": 2, "city": None, "score": None},
    ]


def test_what_cannot_be_indexed_as_it_lies_is_converted(tmp_path: Path) -> None:
    schema = Schema((Column(name="word", dtype="string"), Column(name="when", dtype="timestamp")))
    batch = pa.RecordBatch.from_pydict(
        {"word": pa.array(["b", "a", "b"]).dictionary_encode(), "when": pa.array([1, 2, 3], pa.timestamp("ms"))}
    )
    path = tmp_path / "segment"
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, batch.schema) as writer:
        writer.write_batch(batch)
        writer.write_batch(batch.slice(1))
    file = ShardFile(path, describe_shard(path, 5, "arrival"), schema)

    taken = gatherer_of([file], schema).take(np.array([4, 0, 3]))

    assert taken["word"].tolist() == ["b", "b", "a"]
    assert taken["when"].astype(np.int64).tolist() == [3000, 1000, 2000]


@pytest.mark.usefixtures("loops")
def test_files_are_opened_and_chunks_checked_when_their_rows_are_touched(tmp_path: Path) -> None:
    schema = Schema((Column(name="wide", dtype="uint8", shape=(40_000,)), Column(name="blob", dtype="binary")))
    tables = [
        pa.RecordBatch.from_arrays(
            [
                pa.FixedShapeTensorArray.from_numpy_ndarray(np.full((10, 40_000), seed, np.uint8)),
                pa.array([bytes([seed]) * 50_000] * 10),
                pa.array(np.arange(10, dtype=np.uint64)),
            ],
            names=["wide", "blob", "_hash"],
        )
        for seed in (1, 2, 3)
    ]
    files = files_of(tmp_path, tables, schema)
    (tmp_path / "2.arrow").unlink()
    data = bytearray((tmp_path / "1.arrow").read_bytes())
    for byte, offset in ((2, 40_000 * 5), (2, -50_000)):
        place = (
            data.index(bytes([byte]) * 1_000) + offset if offset > 0 else data.rindex(bytes([byte]) * 1_000) + offset
        )
        data[place] ^= 1
    (tmp_path / "1.arrow").write_bytes(data)
    gatherer = gatherer_of(files, schema)

    intact = gatherer.take(np.array([0, 9, 10, 11]))

    assert intact["wide"][:, 0].tolist() == [1, 1, 2, 2]
    for row in (14, 15, 18):
        for _ in range(2):
            with pytest.raises(CorruptError, match=r"1\.arrow is damaged between"):
                gatherer.take(np.array([row]))


def test_everything_is_checked_once_and_never_asked_again(tmp_path: Path) -> None:
    gatherer = gatherer_of(files_of(tmp_path, [table_of(30), table_of(20, 1)]))

    for _ in range(2):
        gatherer.take(np.arange(50))

    assert gatherer.is_settled


def test_a_damaged_bitmap_is_found_when_the_file_is_opened(tmp_path: Path) -> None:
    schema = Schema((Column(name="x", dtype="int64", nullable=True),))
    values = pa.array(np.arange(200_000), mask=np.arange(200_000) % 3 == 0)
    batch = pa.RecordBatch.from_arrays([values, pa.array(np.arange(200_000, dtype=np.uint64))], names=["x", "_hash"])
    (file,) = files_of(tmp_path, [batch], schema)
    data = bytearray(file.path.read_bytes())
    bitmap = np.packbits(~(np.arange(200_000) % 3 == 0), bitorder="little").tobytes()
    data[data.index(bitmap[:100]) + 20_000] ^= 1
    file.path.write_bytes(data)

    with pytest.raises(CorruptError, match=r"0\.arrow is damaged"):
        gatherer_of([file], schema).take(np.array([199_999]))


@pytest.mark.usefixtures("loops")
@pytest.mark.parametrize("row", [-1, 50, 2**40])
def test_refuses_rows_that_are_not_there(tmp_path: Path, row: int) -> None:
    gatherer = gatherer_of(files_of(tmp_path, [table_of(50)]))

    with pytest.raises(InputError, match="of 50") as caught:
        gatherer.take(np.array([3, row]))

    assert "from 0 to 49" in caught.value.next_step


def test_a_subset_numbers_its_own_rows(tmp_path: Path) -> None:
    (file,) = files_of(tmp_path, [table_of(50)])
    chosen = np.array([3, 30, 42])
    subset = RowGatherer(stretches_of(file, 0, 50), SCHEMA, select=lambda rows: chosen[rows], num_rows=3)

    taken = subset.take(np.array([2, 0]))

    assert taken["label"].tolist() == gatherer_of([file]).take(np.array([42, 3]))["label"].tolist()
    assert subset.in_memory().take(np.array([2, 0]))["label"].tolist() == taken["label"].tolist()
    with pytest.raises(InputError, match="of 3"):
        subset.take(np.array([3]))


def test_rows_in_memory_are_the_same_and_need_no_file(tmp_path: Path) -> None:
    files = files_of(tmp_path, [table_of(30), table_of(20, 1)])
    rows = np.array([49, 0, 31])
    expected = gatherer_of(files).take(rows)

    copied = gatherer_of(files).in_memory()
    for file in files:
        file.path.unlink()

    assert as_python(copied.take(rows), SCHEMA) == as_python(expected, SCHEMA)


def test_record_batches_hold_what_was_stored(tmp_path: Path) -> None:
    table = table_of(30)
    rows = np.array([7, 29, 0, 7])

    batch = gatherer_of(files_of(tmp_path, [table])).record_batch(rows)

    assert batch.equals(
        pa.RecordBatch.from_arrays(table.take(pa.array(rows)).columns[:-1], schema=SCHEMA.arrow()), check_metadata=False
    )
    batch.validate(full=True)


def in_memory(rows: np.ndarray) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([pa.array(rows)], names=["row"])


@given(sizes=st.lists(st.integers(0, 9), min_size=1, max_size=8), data=st.data())
@settings(deadline=None, max_examples=30)
def test_the_number_of_stretches_does_not_matter(sizes: list[int], data: st.DataObject) -> None:
    schema = Schema((Column(name="row", dtype="int64"),))
    firsts = np.cumsum([0, *sizes])
    stretches = [
        Stretch(lambda first=first, size=size: OpenBatch(in_memory(np.arange(first, first + size))), 0, size)
        for first, size in zip(firsts, sizes, strict=False)
    ]
    rows = np.array(data.draw(st.lists(st.integers(0, max(int(firsts[-1]) - 1, 0)), max_size=20)), np.int64)
    rows = rows[rows < firsts[-1]]

    assert RowGatherer(stretches, schema).take(rows)["row"].tolist() == rows.tolist()


@pytest.mark.usefixtures("loops")
@pytest.mark.parametrize("num_columns", [56, 57, 300])
def test_any_number_of_columns_is_read(tmp_path: Path, num_columns: int) -> None:
    values = [np.arange(20, dtype=np.int32) * 1_000 + column for column in range(num_columns)]
    names = [f"c{column}" for column in range(num_columns)]
    batch = pa.RecordBatch.from_arrays([*map(pa.array, values), pa.array(np.arange(20, dtype=np.uint64))],
                                       names=[*names, "_hash"])  # fmt: skip
    schema = Schema(tuple(Column(name=name, dtype="int32") for name in names))
    rows = np.array([19, 0, 7])

    taken = gatherer_of(files_of(tmp_path, [batch], schema), schema).take(rows)

    assert all(taken[name].tolist() == values[column][rows].tolist() for column, name in enumerate(names))


@pytest.mark.usefixtures("loops")
@pytest.mark.parametrize("offsets", [[0, 2, 1_000_000, 3], [0, -5, 2, 3], [0, 2, 1, 3]])
@pytest.mark.parametrize("kind", ["binary", "list"])
def test_offsets_that_point_outside_are_never_followed(tmp_path: Path, offsets: list[int], kind: str) -> None:
    column = Column(name="x", dtype="binary") if kind == "binary" else Column(name="x", dtype="int8", is_list=True)
    starts, items = pa.py_buffer(np.array(offsets, np.int32)), pa.py_buffer(b"abc")
    if kind == "binary":
        array = pa.Array.from_buffers(pa.binary(), 3, [None, starts, items])
    else:
        child = pa.Array.from_buffers(pa.int8(), 3, [None, items])
        array = pa.Array.from_buffers(pa.list_(pa.int8()), 3, [None, starts], children=[child])
    path, schema = tmp_path / "wild.arrow", Schema((column,))
    batch = pa.RecordBatch.from_arrays([array], names=["x"])
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, batch.schema) as writer:
        writer.write_batch(batch)

    with pytest.raises((CorruptError, SchemaError)):
        gatherer_of([ShardFile(path, describe_shard(path, 3, "arrival"), schema)], schema).take(np.arange(3))


@pytest.mark.parametrize("rows", [np.array([True, False, True]), np.array([0.0, 1.5]), np.zeros((2, 2), int), ["1"]])
def test_rows_are_named_by_whole_numbers_alone(tmp_path: Path, rows: np.ndarray) -> None:
    gatherer = gatherer_of(files_of(tmp_path, [table_of(10)]))

    with pytest.raises(InputError, match="expected whole numbers") as caught:
        gatherer.take(rows)

    assert "np.flatnonzero(mask)" in caught.value.next_step
    assert len(gatherer.take(np.array([]))["label"]) == 0


def test_copying_into_memory_cuts_what_arrow_cannot_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files, rows = files_of(tmp_path, [table_of(60)]), np.arange(60)
    expected = as_python_rows(gatherer_of(files).take(rows))
    for module in (gather_module, variable_module):
        monkeypatch.setattr(module, "MAX_ITEMS", 100)

    copied = gatherer_of(files).in_memory()
    with pytest.raises(UnsupportedError, match="at most 100 fit"):
        gatherer_of(files).record_batch(rows)

    assert len(copied._stretches) > 1
    assert copied.num_rows == 60
    assert as_python_rows({name: np.concatenate(parts) for name, parts in in_tens(copied).items()}) == expected


def in_tens(gatherer: RowGatherer) -> dict[str, list[np.ndarray]]:
    # A few rows at a time: as Python objects, all of them are more than Arrow counts here.
    parts = [gatherer.take(np.arange(first, first + 2)) for first in range(0, gatherer.num_rows, 2)]
    return {name: [part[name] for part in parts] for name in parts[0]}


def as_python_rows(taken: dict[str, np.ndarray]) -> str:
    return repr([[np.asarray(value).tolist() for value in taken[name]] for name in sorted(taken)])


def test_a_row_that_is_nowhere_is_an_error_and_never_another_row(tmp_path: Path) -> None:
    (file,) = files_of(tmp_path, [table_of(50)])
    wrong = RowGatherer(stretches_of(file, 0, 50), SCHEMA, select=lambda rows: rows + 49, num_rows=3)

    with pytest.raises(CorruptError, match="cannot find rows"):
        wrong.take(np.array([0, 1]))


def test_gathering_uses_the_buffers_that_nobody_holds(tmp_path: Path, make_rows: Callable[..., object]) -> None:
    gatherer, buffers = gatherer_of(files_of(tmp_path, [table_of(50)])), Buffers()
    first = gatherer.gather(np.arange(10), buffers)
    label, blob = first["label"], first["blob"]
    assert isinstance(label, np.ndarray)
    assert isinstance(blob, Packed)
    kept, address = label[2:4], first["image"].__array_interface__["data"]  # type: ignore[union-attr]
    expected = kept.tolist()
    del first, label

    second = gatherer.gather(np.arange(10, 20), buffers)

    assert second["image"].__array_interface__["data"] == address  # type: ignore[union-attr]
    assert kept.tolist() == expected
