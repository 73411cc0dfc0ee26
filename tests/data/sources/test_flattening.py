from datetime import date, datetime, time
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest

from shoal.base import SourceError
from shoal.data.sources.flattening import Flattening, flattened


def flat(table: pa.Table) -> pa.Table:
    return pa.Table.from_batches(flattened(iter(table.to_batches()), "a table"))


def test_structs_are_taken_apart_and_lose_no_null() -> None:
    table = pa.table({"p": [{"q": {"r": 1}, "t": "a"}, None, {"q": None, "t": "b"}]})

    assert flat(table).to_pylist() == [
        {"p.q.r": 1, "p.t": "a"},
        {"p.q.r": None, "p.t": None},
        {"p.q.r": None, "p.t": "b"},
    ]


def test_a_slice_of_structs_gives_its_own_rows() -> None:
    table = pa.table({"p": [{"q": index} for index in range(10)]}).slice(4, 2)

    assert flat(table).to_pylist() == [{"p.q": 4}, {"p.q": 5}]


@pytest.mark.parametrize(
    ("values", "kind", "expected"),
    [
        ([Decimal("12.50"), None], pa.decimal128(6, 2), [12.5, None]),
        ([Decimal("12"), None], pa.decimal128(18, 0), [12, None]),
        ([Decimal(10) ** 20], pa.decimal128(30, 0), [1e20]),
        ([date(2024, 1, 2)], pa.date32(), [datetime(2024, 1, 2)]),
        ([None, None], pa.null(), [None, None]),
        ([[], None], pa.list_(pa.null()), [[], None]),
        ([[1, 2]], pa.large_list(pa.int8()), [[1, 2]]),
        (["a", "b", None], pa.dictionary(pa.int8(), pa.string()), ["a", "b", None]),
    ],
    ids=str,
)
def test_converts_to_what_a_dataset_stores(values: list[object], kind: pa.DataType, expected: list[object]) -> None:
    assert flat(pa.table({"x": pa.array(values, kind)})).column("x").to_pylist() == expected


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([time(1, 2)], pa.time64("us")),
        ([5], pa.duration("s")),
        ([[("a", 1)]], pa.map_(pa.string(), pa.int64())),
    ],
    ids=str,
)
def test_refuses_by_name_what_has_no_counterpart(values: list[object], kind: pa.DataType) -> None:
    with pytest.raises(SourceError, match=r"column 'p\.x' of a table"):
        flat(pa.table({"p": pa.array([{"x": values[0]}], pa.struct([("x", kind)]))}))


def test_two_columns_of_one_name_are_refused() -> None:
    schema = pa.schema([("a.b", pa.int64()), ("a", pa.struct([("b", pa.int64())]))])

    with pytest.raises(SourceError, match=r"several columns are named 'a\.b'"):
        Flattening(schema, "a table")


def test_plain_columns_are_not_copied() -> None:
    batch = pa.RecordBatch.from_pydict({"x": np.arange(5)})

    assert (
        Flattening(batch.schema, "a batch")(batch).column("x").buffers()[1].address == batch["x"].buffers()[1].address
    )
