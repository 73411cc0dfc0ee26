import gzip
from collections.abc import Callable
from pathlib import Path

import pytest

from shoal.base import SchemaError, SourceError
from shoal.data import JsonlSource, Source
from shoal.data.sources import SchemaWidenedError
from shoal.testing import SourceContract

Write = Callable[[str, bytes], Path]
Rows = Callable[[Source], list[dict[str, object]]]
Lines = Callable[[Source], list[int]]
Told = Callable[[Source], list[tuple[int, str, str]]]


class TestJsonlSource(SourceContract):
    @pytest.fixture
    def make_source(self, write: Write) -> Callable[[], Source]:
        paths = [write("a.jsonl", b'{"x":1,"p":{"c":"a"}}\n\n{"x":2}\n'), write("b.jsonl", b'{"x":3.5,"l":[1,2]}\n')]
        return lambda: JsonlSource(paths)


class TestJsonlSourceWithBadRows(SourceContract):
    @pytest.fixture
    def make_source(self, write: Write) -> Callable[[], Source]:
        path = write("a.jsonl", b'{"x":1}\n{"x":\n{"x":3}\n')
        return lambda: JsonlSource(path, on_bad="quarantine")


def types_of(source: Source) -> dict[str, str]:
    schema = next(source.record_batches()).schema
    return {field.name: str(field.type) for field in schema}


def test_nested_objects_become_columns_with_dots(write: Write, rows_of: Rows) -> None:
    path = write("a.jsonl", b'{"a":{"b":{"c":1},"d":"x"}}\n{"a":null}\n{"a":{"d":"y"}}\n')

    assert rows_of(JsonlSource(path)) == [
        {"a.b.c": 1, "a.d": "x"},
        {"a.b.c": None, "a.d": None},
        {"a.b.c": None, "a.d": "y"},
    ]


def test_types_are_those_that_hold_all_values_of_all_files(write: Write) -> None:
    paths = [
        write("a.jsonl", b'{"n":1,"l":[1],"none":null,"day":"2024-01-01"}\n'),
        write("b.jsonl", b'{"n":1.5,"l":[0.5],"new":true,"day":"2024-01-01T10:00:00"}\n'),
    ]

    assert types_of(JsonlSource(paths)) == {
        "n": "double",
        "l": "list<item: double>",
        "none": "string",
        "day": "timestamp[us]",
        "new": "bool",
    }


def test_a_late_key_or_wider_number_asks_for_a_second_reading_which_has_it(
    write: Write, rows_of: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write("a.jsonl", b'{"x":1}\n' * 2_000 + b'{"x":2.5}\n{"y":{"z":"new"}}\n')
    monkeypatch.setattr("shoal.data.sources.text._WHOLE_BYTES", 100)
    monkeypatch.setattr("shoal.data.sources.text._HEAD_BYTES", 1_000)
    monkeypatch.setattr("shoal.data.sources.text._NUM_SAMPLES", 0)
    source = JsonlSource(path)

    with pytest.raises(SchemaWidenedError, match="x: double, y: struct"):
        rows_of(source)

    assert rows_of(source)[-2:] == [{"x": 2.5, "y.z": None}, {"x": None, "y.z": "new"}]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"x": 1', "it is no JSON"),
        (b"[1]", "it is a JSON list, expected an object"),
        (b'{"x": "one"}', "key 'x' is \"one\", expected int64"),
        (b'{"x": 1, "x": 2}', "twice"),
        (b'{"t": "\xff"}', "it is not UTF-8"),
        (b'{"p": {"c": "a"}}', "key 'p.c' is \"a\", expected int64"),
    ],
)
def test_a_bad_line_is_named_and_the_rows_around_it_are_kept(
    write: Write, rows_of: Rows, told: Told, line: bytes, reason: str
) -> None:
    path = write("a.jsonl", b'{"x":1,"t":"a","p":{"c":1}}\n\n' + line + b'\n{"x":2}\n')

    with pytest.raises(SourceError, match=r"a\.jsonl, line 3: ") as caught:
        rows_of(JsonlSource(path))
    source = JsonlSource(path, on_bad="quarantine")

    assert reason in str(caught.value)
    assert [row["x"] for row in rows_of(source)] == [1, 2]
    assert [(position, content) for position, _, content in told(source)] == [
        (3, line.decode(errors="backslashreplace"))
    ]


def test_declared_types_hold_and_reject_what_does_not_fit(write: Write, rows_of: Rows, told: Told) -> None:
    path = write("a.jsonl", b'{"x":1}\n{"x":300}\n{"x":1.5}\n{"x":-2}\n')
    source = JsonlSource(path, dtypes={"x": "int8"}, on_bad="quarantine")

    assert rows_of(source) == [{"x": 1}, {"x": -2}]
    assert [position for position, _, _ in told(source)] == [2, 3]


def test_lines_are_counted_over_blank_and_bad_ones(write: Write, lines_of: Lines) -> None:
    path = write("a.jsonl", b'\n{"x":1}\n  \n{"x":\n{"x":2}\r\n{"x":3}')

    assert lines_of(JsonlSource(path, on_bad="drop")) == [2, 5, 6]


def test_compressed_files_are_seen_by_their_bytes(write: Write, rows_of: Rows) -> None:
    assert rows_of(JsonlSource(write("a.jsonl.gz", gzip.compress(b'{"x":1}\n')))) == [{"x": 1}]


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"", "it is empty"),
        (b"\n", "it has no columns"),
        (b'[{"x":1}]', "it is one JSON array, expected one object a line"),
        (b'{"x":["a"]}\n', "key 'x': it holds lists of string"),
        (b'{"x":[{"y":1}]}\n', "key 'x': it holds lists of struct"),
    ],
)
def test_what_cannot_be_columns_is_told(write: Write, rows_of: Rows, content: bytes, found: str) -> None:
    with pytest.raises(SourceError, match=found):
        rows_of(JsonlSource(write("a.jsonl", content)))


def test_objects_cannot_be_declared(write: Write, rows_of: Rows) -> None:
    with pytest.raises(SchemaError, match="holds objects"):
        rows_of(JsonlSource(write("a.jsonl", b'{"p":{"c":1}}\n'), dtypes={"p": "string"}))
