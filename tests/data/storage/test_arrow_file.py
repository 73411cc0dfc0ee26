import io

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from shoal.data.storage.arrow_file import StoredField, check_metadata, find_body, stored_fields

ROWS = pa.RecordBatch.from_pydict({"a": pa.array([1, None, 3], pa.int16()), "b": ["x", "", "yy"], "c": [[1.5], [], []]})


def file_of(batches: list[pa.RecordBatch], options: pa.ipc.IpcWriteOptions | None = None) -> np.ndarray:
    sink = io.BytesIO()
    with pa.ipc.new_file(sink, batches[0].schema, options=options) as writer:
        for batch in batches:
            writer.write_batch(batch)
    return np.frombuffer(sink.getvalue(), np.uint8)


@pytest.mark.parametrize("num_batches", [1, 2, 5])
def test_everything_but_the_rows_is_metadata(num_batches: int) -> None:
    rows = np.full(10_000, 77, np.int64)
    data = file_of([pa.RecordBatch.from_pydict({"a": rows}) for _ in range(num_batches)])
    covered = np.zeros(len(data), np.bool_)

    def check(start: int, stop: int) -> None:
        covered[start:stop] = True

    check_metadata(data, check)

    # The magic number at the front is not needed, and padding belongs to nobody.
    outside = data[8:][~covered[8:]]
    assert np.count_nonzero(outside) == num_batches * len(rows)
    assert set(outside.tolist()) == {0, 77}


def test_nothing_is_believed_before_it_is_checked() -> None:
    data = file_of([pa.RecordBatch.from_pydict({"a": [1, 2, 3]})])
    hidden, seen, expected = np.zeros_like(data), [], []

    def reveal(start: int, stop: int) -> None:
        hidden[start:stop] = data[start:stop]
        seen.append((start, stop))

    check_metadata(hidden, reveal)
    check_metadata(data, lambda start, stop: expected.append((start, stop)))

    assert seen == expected


def test_dictionaries_are_metadata_too() -> None:
    words = pa.array(["one", "two", "one"]).dictionary_encode()
    data = file_of([pa.RecordBatch.from_arrays([words], names=["word"])])
    seen = []

    check_metadata(data, lambda start, stop: seen.append(bytes(data[start:stop])))

    assert any(b"onetwo" in part for part in seen)


def test_arrays_are_found_where_arrow_finds_them() -> None:
    data = file_of([ROWS])
    batch = pa.ipc.open_file(pa.py_buffer(data)).get_batch(0)

    body = find_body(data)

    assert body is not None
    assert body.num_rows == 3
    expected = [buffer for column in batch.columns for buffer in column.buffers()]
    assert len(body.buffers) == len(expected)
    for (start, size), buffer in zip(body.buffers, expected, strict=True):
        assert bytes(data[start : start + size]) == (b"" if buffer is None else buffer.to_pybytes())


def test_files_are_of_one_kind_when_only_their_rows_differ() -> None:
    renamed = ROWS.rename_columns(["a", "b", "d"])

    kinds = [body.kind for rows in (ROWS, ROWS[1:], renamed) if (body := find_body(file_of([rows]))) is not None]

    assert [kinds[0] == kind for kind in kinds] == [True, True, False]


@pytest.mark.parametrize(
    "data",
    [
        file_of([ROWS, ROWS]),
        file_of([ROWS], pa.ipc.IpcWriteOptions(compression="lz4")),
        file_of([pa.RecordBatch.from_arrays([pa.array(["a", "b"]).dictionary_encode()], names=["word"])]),
        file_of([pa.RecordBatch.from_arrays([pa.array(["a text of some length"], pa.string_view())], names=["t"])]),
        np.zeros(0, np.uint8),
        np.zeros(64, np.uint8),
    ],
    ids=["batches", "compressed", "dictionary", "views", "empty", "zeros"],
)
def test_what_only_arrow_can_read_is_left_to_it(data: np.ndarray) -> None:
    assert find_body(data) is None


@given(place=st.integers(0, 10_000), value=st.integers(0, 255), cut=st.integers(0, 20))
def test_whatever_a_file_says_nothing_outside_it_is_believed(place: int, value: int, cut: int) -> None:
    data = file_of([ROWS])
    data = data[: len(data) - cut].copy()
    data[place % len(data)] = value

    body = find_body(data)

    for start, size in () if body is None else body.buffers:
        assert 0 <= start <= start + size <= len(data)


def test_columns_are_known_by_their_names_types_and_first_arrays() -> None:
    columns = {
        "s": pa.array([{"a": 1, "b": "c"}]),
        "text": pa.array(["a"]),
        "image": pa.FixedShapeTensorArray.from_numpy_ndarray(np.zeros((1, 2, 3), np.uint8)),
        "tags": pa.array([[1]], pa.list_(pa.int16())),
        "when": pa.array([1], pa.timestamp("us")),
        "zoned": pa.array([1], pa.timestamp("us", "UTC")),
        "half": pa.array([1.5], pa.float16()),
        "flag": pa.array([True]),
    }
    data = file_of([pa.RecordBatch.from_pydict(columns)])
    body = find_body(data)
    assert body is not None

    fields = stored_fields(data, body)

    assert fields == {
        "s": StoredField(0, ""),
        "text": StoredField(6, "string"),
        "image": StoredField(9, "uint8", (6,)),
        "tags": StoredField(12, "int16", is_list=True),
        "when": StoredField(16, "timestamp"),
        "zoned": StoredField(18, ""),
        "half": StoredField(20, "float16"),
        "flag": StoredField(22, "bool"),
    }


def test_columns_of_one_name_and_types_of_another_meaning_are_left_to_arrow() -> None:
    twice = pa.RecordBatch.from_arrays([pa.array([1]), pa.array([2]), pa.array([3])], names=["a", "a", "b"])
    meant = pa.RecordBatch.from_arrays([pa.array(["{}"], pa.json_())], names=["a"])

    fields = [stored_fields(data, body) for data in map(file_of, [[twice], [meant]]) if (body := find_body(data))]

    assert fields == [{"b": StoredField(4, "int64")}, {"a": StoredField(0, "")}]


@given(place=st.integers(0, 10_000), value=st.integers(0, 255))
@example(place=118, value=56)  # the width of a float, 2 to the power of thousands
def test_whatever_a_schema_says_each_column_begins_at_one_of_the_files_arrays(place: int, value: int) -> None:
    data = file_of([ROWS])
    body = find_body(data)
    assert body is not None
    damaged = data.copy()
    damaged[-1 - place % (len(data) // 2)] = value

    for field in stored_fields(damaged, body).values():
        assert 0 <= field.first <= len(body.buffers)
