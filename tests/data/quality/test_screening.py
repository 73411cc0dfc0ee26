"""The rules from the outside: what comes in, what is refused, and what is said of it."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from shoal.base import InputError, SchemaError, SourceError
from shoal.data import Column, Schema, ingest
from shoal.data.quality import Allowed, NotNull, Range


@pytest.fixture
def people(tmp_path: Path) -> Path:
    path = tmp_path / "people.csv"
    lines = [f"p{number},{20 + number % 50}" for number in range(100)]
    lines[40], lines[60] = "p40,200", "p60,"
    path.write_text("\n".join(["name,age", *lines]) + "\n")
    return path


def test_the_first_bad_row_is_named_with_its_line_and_value(people: Path, tmp_path: Path) -> None:
    with pytest.raises(SourceError) as caught:
        ingest(people, tmp_path / "b", checks=[NotNull("age"), Range("age", 0, 120)])

    assert f"{people}, line 42, column 'age': found 200, expected from 0 to 120" in caught.value.message
    assert "quarantine" in caught.value.next_step
    assert not (tmp_path / "b").exists()


def test_bad_rows_are_kept_with_reason_and_place_and_good_ones_come_in(people: Path, tmp_path: Path) -> None:
    dataset = ingest(people, tmp_path / "b", checks=[Range("age", 0, 120), NotNull("age")], on_bad="quarantine")

    assert dataset.num_rows == 98
    assert {each.reason: each.num_rows for each in dataset.manifest.refused} == {
        "age: a value": 1,
        "age: from 0 to 120": 1,
    }
    assert dataset.quarantine is not None
    assert dataset.quarantine.path == tmp_path / "b-quarantine"
    rows = sorted(
        (row for batch in dataset.quarantine.batches() for row in batch.to_pylist()), key=lambda r: r["position"]
    )
    assert [(row["source"], row["position"]) for row in rows] == [(str(people), 42), (str(people), 62)]
    assert json.loads(rows[0]["row"]) == {"name": "p40", "age": 200}
    assert rows[0]["reason"] == "expected from 0 to 120, column 'age': found 200"


def test_dropped_rows_are_counted_and_not_kept(people: Path, tmp_path: Path) -> None:
    dataset = ingest(people, tmp_path / "b", checks=[Range("age", 0, 120)], on_bad="drop")

    assert dataset.num_rows == 99
    assert [(each.reason, each.num_rows) for each in dataset.manifest.refused] == [("age: from 0 to 120", 1)]
    assert dataset.quarantine is None
    assert not (tmp_path / "b-quarantine").exists()


def test_lines_that_cannot_be_read_are_refused_rows_too(people: Path, tmp_path: Path) -> None:
    people.write_text(people.read_text() + "one,two,three\n")

    dataset = ingest(people, tmp_path / "b", on_bad="quarantine")
    dropped = ingest(people, tmp_path / "c", on_bad="drop")

    assert dataset.num_rows == dropped.num_rows == 100
    assert [each.num_rows for each in dataset.manifest.refused] == [1]
    assert dropped.manifest.refused == dataset.manifest.refused
    assert dataset.quarantine is not None
    (row,) = [row for batch in dataset.quarantine.batches() for row in batch.to_pylist()]
    assert (row["row"], row["position"]) == ("one,two,three", 102)


def test_the_same_again_changes_nothing(people: Path, tmp_path: Path) -> None:
    first = ingest(people, tmp_path / "b", checks=[Range("age", 0, 120)], on_bad="quarantine")

    again = ingest(people, tmp_path / "b", checks=[Range("age", 0, 120)], on_bad="quarantine")

    assert again == first


def test_an_append_adds_to_the_quarantine(people: Path, tmp_path: Path) -> None:
    dataset = ingest(people, tmp_path / "b", checks=[Range("age", 0, 120)], on_bad="quarantine")
    more = {"name": np.array(["x", "y"], dtype=object), "age": np.array([300, 30])}

    newer = dataset.append(more, checks=[Range("age", 0, 120)], on_bad="quarantine")

    assert (newer.num_rows, newer.quarantine.num_rows, dataset.quarantine.num_rows) == (100, 2, 1)
    assert sum(each.num_rows for each in newer.manifest.refused) == 2


def test_a_declared_schema_converts_and_refuses_what_it_cannot(tmp_path: Path) -> None:
    rows = pa.table({"age": ["1", "old", None], "more": [1, 2, 3], "x": [1.0, 2.0, 3.0]})

    dataset = ingest(rows, tmp_path / "b", schema={"x": "float32", "age": "int8"}, on_bad="drop")

    assert [str(column) for column in dataset.schema.columns] == ["x: float32", "age: int8 or null"]
    assert dataset.num_rows == 2
    assert dataset.manifest.refused[0].reason == "age: int8"


def test_a_declared_column_that_is_not_nullable_refuses_nulls(tmp_path: Path) -> None:
    schema = Schema((Column(name="x", dtype="int64"),))

    with pytest.raises(SourceError, match=r"row 1, column 'x': found None, expected a value"):
        ingest(pa.table({"x": [1, None]}), tmp_path / "b", schema=schema)


def test_rows_without_a_key_are_bad_rows(tmp_path: Path) -> None:
    rows = pa.table({"user": ["a", None, "b"]})

    with pytest.raises(SourceError, match=r"row 1, column 'user'"):
        ingest(rows, tmp_path / "b", key="user")
    assert ingest(rows, tmp_path / "b", key="user", on_bad="drop").num_rows == 2


def test_a_source_without_any_good_row_is_refused(people: Path, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"all 100 were refused .*100 lack name"):
        ingest(people, tmp_path / "b", checks=[Allowed("name", ["nobody"])], on_bad="quarantine")

    assert sorted(path.name for path in tmp_path.iterdir()) == ["people.csv"]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"on_bad": "ignore"}, InputError, "on_bad='ignore'"),
        ({"checks": [Range("years", 0)]}, SchemaError, "column 'years'"),
        ({"checks": ["age"]}, InputError, "'age' is no check"),
        ({"schema": {"years": "int64"}}, SchemaError, "no column 'years'"),
    ],
)
def test_rules_about_nothing_are_refused(
    people: Path, tmp_path: Path, options: dict[str, object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        ingest(people, tmp_path / "b", **options)


@pytest.mark.slow
@pytest.mark.parametrize("num_lines", [7_000_100])
def test_a_bad_row_at_line_seven_million_is_named_and_the_rest_comes_in(tmp_path: Path, num_lines: int) -> None:
    path = tmp_path / "long.csv"
    with path.open("w") as file:
        file.write("x\n")
        for start in range(2, num_lines + 1, 100_000):
            lines = [str(line) for line in range(start, min(start + 100_000, num_lines + 1))]
            if start <= 7_000_000 < start + 100_000:
                lines[7_000_000 - start] = "?"
            file.write("\n".join(lines) + "\n")
    schema = {"x": "int64"}

    with pytest.raises(SourceError, match=r"line 7000000\b"):
        ingest(path, tmp_path / "b", schema=schema)
    dataset = ingest(path, tmp_path / "b", schema=schema, on_bad="quarantine")

    assert dataset.num_rows == num_lines - 2
    assert dataset.quarantine is not None
    assert dataset.quarantine.arrays()["position"].tolist() == [7_000_000]
