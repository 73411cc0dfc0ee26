import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shoal.base import InputError, SchemaError, SourceError
from shoal.data import CsvSource, Source
from shoal.data.sources import SchemaWidenedError
from shoal.data.sources.text import TextSource
from shoal.testing import SourceContract

Write = Callable[[str, bytes], Path]
Rows = Callable[[Source], list[dict[str, object]]]
Lines = Callable[[Source], list[int]]
Told = Callable[[Source], list[tuple[int, str, str]]]


class TestCsvSource(SourceContract):
    @pytest.fixture
    def make_source(self, write: Write) -> Callable[[], Source]:
        paths = [write("a.csv", b"x,t\n1,a\n2,b\n\n3,c\n"), write("b.csv", b'x,t\n4,"q\nr"\n5,\n')]
        return lambda: CsvSource(paths)


class TestCsvSourceWithBadRows(SourceContract):
    @pytest.fixture
    def make_source(self, write: Write) -> Callable[[], Source]:
        path = write("a.csv", b"x,t\n1,a\n2\n3,c\n")
        return lambda: CsvSource(path, on_bad="quarantine")


def types_of(source: Source) -> dict[str, str]:
    schema = next(source.record_batches()).schema
    return {field.name: str(field.type) for field in schema}


def test_infers_the_narrowest_type_that_holds_every_value(write: Write) -> None:
    path = write(
        "a.csv",
        b"whole,part,truth,day,moment,zoned,words,none,clock\n"
        b"1,1,true,2024-01-01,2024-01-01 10:00:00,2024-01-01T10:00:00+01:00,a,,10:00:00\n"
        b"2,1.5,false,2024-01-02,2024-01-01 10:00:00.5,2024-01-01T10:00:00Z,1,,11:00:00\n",
    )

    assert types_of(CsvSource(path)) == {
        "whole": "int64",
        "part": "double",
        "truth": "bool",
        "day": "timestamp[us]",
        "moment": "timestamp[us]",
        "zoned": "timestamp[us]",
        "words": "string",
        "none": "string",
        "clock": "string",
    }


def test_instants_with_a_zone_are_told_in_utc(write: Write, rows_of: Rows) -> None:
    rows = rows_of(CsvSource(write("a.csv", b"t\n1970-01-01T01:00:00+01:00\n")))

    assert rows[0]["t"].isoformat() == "1970-01-01T00:00:00"


def test_declared_types_hold(write: Write, rows_of: Rows) -> None:
    path = write("a.csv", b"a,b,c,d\n1,2,3,4\n")

    source = CsvSource(path, dtypes={"a": "int8", "b": "string", "c": "float16", "d": "binary"})

    assert types_of(source) == {"a": "int8", "b": "string", "c": "halffloat", "d": "binary"}
    assert rows_of(source) == [{"a": 1, "b": "2", "c": 3.0, "d": b"4"}]


def test_a_late_wider_value_asks_for_a_second_reading_which_has_it(
    write: Write, rows_of: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write("a.csv", b"x,y\n" + b"1,1\n" * 5_000 + b"2.5,x\n" + b"3,1\n" * 5_000 + b"word,1\n")
    monkeypatch.setattr("shoal.data.sources.text._WHOLE_BYTES", 100)
    monkeypatch.setattr("shoal.data.sources.text._HEAD_BYTES", 1_000)
    monkeypatch.setattr("shoal.data.sources.text._NUM_SAMPLES", 0)
    source = CsvSource(path)

    with pytest.raises(SchemaWidenedError, match="x: string, y: string"):
        rows_of(source)
    rows = rows_of(source)

    assert (rows[0], rows[5_000], rows[-1]) == (
        {"x": "1", "y": "1"},
        {"x": "2.5", "y": "x"},
        {"x": "word", "y": "1"},
    )


def test_samples_over_a_large_file_find_a_wider_value_at_once(
    write: Write, rows_of: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write("a.csv", b"x\n" + b"1\n" * 5_000 + b"2.5\n" * 5_000)
    monkeypatch.setattr("shoal.data.sources.text._WHOLE_BYTES", 100)
    monkeypatch.setattr("shoal.data.sources.text._HEAD_BYTES", 1_000)
    monkeypatch.setattr("shoal.data.sources.text._SAMPLE_BYTES", 100)

    assert rows_of(CsvSource(path))[0] == {"x": 1.0}


def test_reads_what_arrow_reads(tmp_path: Path, rows_of: Rows) -> None:
    rng = np.random.default_rng(0)
    table = pa.table(
        {"n": rng.integers(0, 1 << 40, 20_000), "f": rng.normal(size=20_000), "t": ["a,b", 'c"d'] * 10_000}
    )
    pyarrow.csv.write_csv(table, tmp_path / "a.csv")

    assert rows_of(CsvSource(tmp_path / "a.csv")) == table.to_pylist()


def test_lines_are_counted_over_blank_ones_and_quoted_line_ends(write: Write, lines_of: Lines) -> None:
    path = write("a.csv", b'x,t\r\n1,a\r\n\r\n2,"b\r\n\r\nc"\r\n3,d\r\n')

    assert lines_of(CsvSource(path)) == [2, 4, 7]


def test_lines_are_counted_with_a_quote_in_the_middle_of_a_value(write: Write, lines_of: Lines) -> None:
    path = write("a.csv", b'x,t\n1,5" pipe\n\n2,"b\n"\n3,d\n')

    assert lines_of(CsvSource(path)) == [2, 4, 6]


def test_lines_are_counted_over_blocks(write: Write, lines_of: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write("a.csv", b"x,t\n" + b"".join(b'%d,"a\n"\n' % index for index in range(500)))
    monkeypatch.setattr("shoal.data.sources.blocks.BLOCK_BYTES", 100)
    monkeypatch.setattr("shoal.data.sources.text._HEAD_BYTES", 100)

    assert lines_of(CsvSource(path)) == [2 + 2 * index for index in range(500)]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"7", "it has 1 values, expected 2"),
        (b"7,a,b", "it has 3 values, expected 2"),
        (b"x7,a", "column 'x' is 'x7', expected int8"),
        (b"1000,a", "column 'x' is '1000', expected int8"),
        (b"7,\xff", "column 't' is not UTF-8"),
        (b'7,"a', "a quoted value begins here and never ends"),
    ],
)
def test_a_bad_line_is_named_and_the_rows_around_it_are_kept(
    write: Write, rows_of: Rows, told: Told, line: bytes, reason: str
) -> None:
    path = write("a.csv", b"x,t\n1,a\n" + line + b"\n2,b\n")
    dtypes = {"x": "int8"}

    with pytest.raises(SourceError, match=r"a\.csv, line 3: ") as caught:
        rows_of(CsvSource(path, dtypes=dtypes))
    source = CsvSource(path, dtypes=dtypes, on_bad="quarantine")

    assert reason in str(caught.value)
    assert rows_of(source) == [{"x": 1, "t": "a"}, {"x": 2, "t": "b"}]
    assert [(position, content) for position, _, content in told(source)] == [
        (3, line.decode(errors="backslashreplace"))
    ]


def test_dropped_lines_are_not_told(write: Write, rows_of: Rows) -> None:
    source = CsvSource(write("a.csv", b"x,t\n1,a\n2\n"), on_bad="drop")

    assert len(rows_of(source)) == 1
    assert list(source.rejects()) == []


def test_good_rows_keep_their_lines_among_many_bad_ones(write: Write, lines_of: Lines, told: Told) -> None:
    lines = [b"%d" % index if index % 3 else b"no" for index in range(3_000)]
    path = write("a.csv", b"x\n" + b"\n".join(lines) + b"\n")
    source = CsvSource(path, dtypes={"x": "int32"}, on_bad="quarantine")

    assert lines_of(source) == [index + 2 for index in range(3_000) if index % 3]
    assert [position for position, _, _ in told(source)] == [index + 2 for index in range(3_000) if not index % 3]


def test_an_inferred_column_rejects_nothing(write: Write, rows_of: Rows) -> None:
    source = CsvSource(write("a.csv", b"x\n1\nword\n"), on_bad="quarantine")

    assert rows_of(source) == [{"x": "1"}, {"x": "word"}]


def test_a_mark_at_the_begin_and_returns_are_no_part_of_the_names(write: Write, rows_of: Rows) -> None:
    assert rows_of(CsvSource(write("a.csv", b"\xef\xbb\xbfx,t\r\n1,a\r\n"))) == [{"x": 1, "t": "a"}]


def test_compressed_files_are_seen_by_their_bytes(write: Write, rows_of: Rows) -> None:
    packed = [
        write("a.csv.gz", gzip.compress(b"x\n1\n")),
        write("b.csv.zst", pa.compress(b"x\n2\n", "zstd", asbytes=True)),
    ]

    source = CsvSource(packed)

    assert rows_of(source) == [{"x": 1}, {"x": 2}]
    assert [Path(fact.path).name for fact in source.facts()] == ["a.csv.gz", "b.csv.zst"]


def test_a_truncated_gzip_is_named(write: Write, rows_of: Rows) -> None:
    path = write("a.csv.gz", gzip.compress(b"x\n" + b"123456\n" * 10_000)[:-20])

    with pytest.raises(SourceError, match=r"a\.csv\.gz: its gzip data is damaged or truncated"):
        rows_of(CsvSource(path))


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"", "it is empty"),
        (b"\n\n", "it has no lines"),
        (b"x,x\n1,2\n", "several columns are named 'x'"),
        (b"PAR1....", "begins like a Parquet file"),
        (b"\xff\xfex\0", "begins like UTF-16"),
        (b"\xffx\n1\n", "line 1: it is not UTF-8"),
    ],
)
def test_what_is_no_csv_is_named(write: Write, rows_of: Rows, content: bytes, found: str) -> None:
    path = write("a.csv", content)

    with pytest.raises(SourceError, match=found) as caught:
        rows_of(CsvSource(path))

    assert str(path) in str(caught.value)


def test_files_with_other_columns_are_refused(write: Write, rows_of: Rows) -> None:
    paths = [write("a.csv", b"x,t\n1,a\n"), write("b.csv", b"x,u\n1,a\n")]

    with pytest.raises(SourceError, match="differ from file to file"):
        rows_of(CsvSource(paths))


def test_columns_may_stand_in_another_order_in_the_next_file(write: Write, rows_of: Rows) -> None:
    paths = [write("a.csv", b"x,t\n1,a\n"), write("b.csv", b"t,x\nb,2\n")]

    assert rows_of(CsvSource(paths)) == [{"x": 1, "t": "a"}, {"x": 2, "t": "b"}]


def test_other_delimiters_headers_and_nulls(write: Write, rows_of: Rows) -> None:
    path = write("a.csv", b"1;-\n-;b\n")

    rows = rows_of(CsvSource(path, delimiter=";", header=["x", "t"], null_values=["-"]))

    assert rows == [{"x": 1, "t": None}, {"x": None, "t": "b"}]
    assert rows_of(CsvSource(path, delimiter=";", header=False))[0] == {"column_0": "1", "column_1": "-"}


def test_a_file_that_changes_while_it_is_read_is_named(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write("a.csv", b"x\n" + b"1\n" * 10_000)
    monkeypatch.setattr("shoal.data.sources.blocks.BLOCK_BYTES", 1_000)
    monkeypatch.setattr("shoal.data.sources.text._HEAD_BYTES", 100)
    batches = CsvSource(path).record_batches()

    next(batches)
    with path.open("ab") as file:
        file.write(b"2\n")

    with pytest.raises(SourceError, match=r"a\.csv was changed while it was read"):
        list(batches)


def test_a_quote_that_is_never_closed_costs_one_line_however_long_the_file_is(
    write: Write, rows_of: Rows, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write("a.csv", b'x,t\n0,"a\n' + b"1,b\n" * 2_000)
    monkeypatch.setattr("shoal.data.sources.blocks.BLOCK_BYTES", 500)
    monkeypatch.setattr("shoal.data.sources.text._HEAD_BYTES", 500)
    monkeypatch.setattr("shoal.data.sources.records._MAX_VALUE_BYTES", 1_000)
    source = CsvSource(path, on_bad="quarantine")

    assert len(rows_of(source)) == 2_000
    assert [position for position, _, _ in told(source)] == [2]


def test_a_wrong_argument_is_told(write: Write) -> None:
    path = write("a.csv", b"x\n1\n")

    with pytest.raises(InputError, match="delimiter"):
        CsvSource(path, delimiter="ab")
    with pytest.raises(InputError, match="'number' must be one of"):
        CsvSource(path, dtypes={"x": "number"})
    with pytest.raises(SchemaError, match="'y', and the columns"):
        list(CsvSource(path, dtypes={"y": "int8"}).record_batches())


def test_stopping_early_leaves_no_thread_and_no_open_file(write: Write) -> None:
    source: TextSource = CsvSource(write("a.csv", b"x\n" + b"1\n" * 100))
    batches = source.record_batches()

    next(batches)
    batches.close()

    assert source.facts() == ()


@given(
    st.lists(
        st.sampled_from(
            [b"1,a\n", b'2,5" pipe\n', b'3,"multi\nline"\n', b'4,"a ""b"" c"\n', b'5,"open\n', b"6\n", b'7,x"\n', b"\n"]
        ),
        min_size=1,
        max_size=12,
    ),
    st.integers(1, 40),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_rows_and_rejects_are_the_same_however_a_file_is_cut_into_blocks(
    tmp_path: Path, rows_of: Rows, told: Told, lines: list[bytes], block_bytes: int
) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"n,t\n" + b"".join(lines))

    def read() -> tuple[object, object]:
        source = CsvSource(path, dtypes={"n": "string", "t": "string"}, on_bad="quarantine")
        return rows_of(source), told(source)

    whole = read()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("shoal.data.sources.blocks.BLOCK_BYTES", block_bytes)
        patch.setattr("shoal.data.sources.text._HEAD_BYTES", 20)
        assert read() == whole
