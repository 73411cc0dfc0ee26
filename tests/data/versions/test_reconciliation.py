from collections.abc import Iterator

import pyarrow as pa
import pytest

from shoal.base import SchemaError
from shoal.data import Column, Schema, SourceFact
from shoal.data.sources.base import REJECTS, RejectingSource
from shoal.data.versions.reconciliation import common_column, evolving, placed, united, with_missing

A = Column(name="a", dtype="int32", id=0)
B = Column(name="b", dtype="string", id=1)


class Lines:
    """A source of two batches with a column that is new."""

    def record_batches(self) -> Iterator[pa.RecordBatch]:
        for number in range(2):
            batch = pa.RecordBatch.from_pydict({"c": ["x"], "a": pa.array([number], pa.int64())})
            yield batch.replace_schema_metadata({"shoal.source": "lines.csv"})

    def facts(self) -> tuple[SourceFact, ...]:
        return (SourceFact(path="lines.csv", digest=None, num_rows=2),)


class BadLines(Lines):
    on_bad = "raise"

    def rejects(self) -> Iterator[pa.RecordBatch]:
        yield pa.RecordBatch.from_pylist([], schema=REJECTS)


def test_batches_have_the_columns_of_both_sides() -> None:
    source = evolving(Lines(), (A, B))

    batches = list(source.record_batches())

    assert [batch.schema.names for batch in batches] == [["a", "b", "c"]] * 2
    assert pa.Table.from_batches(batches).to_pylist() == [
        {"a": 0, "b": None, "c": "x"},
        {"a": 1, "b": None, "c": "x"},
    ]
    assert batches[0].schema.field("a").type == pa.int64()
    assert batches[0].schema.metadata == {b"shoal.source": b"lines.csv"}
    assert source.facts()[0].path == "lines.csv"


def test_bad_rows_are_still_put_aside() -> None:
    inner = BadLines()
    source = evolving(inner, (A, B))

    assert isinstance(source, RejectingSource)
    source.on_bad = "quarantine"
    assert inner.on_bad == source.on_bad == "quarantine"
    assert [batch.num_rows for batch in source.rejects()] == [0]


def test_what_one_side_lacks_is_nullable() -> None:
    columns = united((A, B), (Column(name="a", dtype="int32"), Column(name="c", dtype="bool")))

    assert [str(column) for column in columns] == ["a: int32", "b: string or null", "c: bool or null"]


def test_columns_are_matched_by_id_and_dropped_ones_stay_unseen() -> None:
    renamed = Column(name="aa", dtype="int64", id=0)

    columns = placed((renamed, B), (A, Column(name="gone", dtype="bool", id=5)))

    assert [str(column) for column in columns] == ["aa: int64", "b: string or null", "gone: bool or null"]


def test_missing_columns_are_filled_with_nulls() -> None:
    batch = pa.RecordBatch.from_pydict({"a": pa.array([1], pa.int32())})

    assert with_missing(batch, Schema((A, B))).to_pylist() == [{"a": 1, "b": None}]


@pytest.mark.parametrize(
    ("one", "other", "common"),
    [
        ("int32", "int64", "int64"),
        ("uint8", "int16", "int16"),
        ("float32", "float64", "float64"),
        ("int32", "float64", "float64"),
    ],
)
def test_the_wider_type_holds_both(one: str, other: str, common: str) -> None:
    sides = Column(name="x", dtype=one), Column(name="x", dtype=other)

    assert common_column(*sides).dtype == common_column(*reversed(sides)).dtype == common


@pytest.mark.parametrize(
    ("one", "other"), [("int64", "string"), ("int64", "float64"), ("int64", "uint64"), ("bool", "int8")]
)
def test_types_without_a_common_one_are_refused(one: str, other: str) -> None:
    with pytest.raises(SchemaError, match=f"found x: {other} where x: {one} is expected"):
        common_column(Column(name="x", dtype=one), Column(name="x", dtype=other))
