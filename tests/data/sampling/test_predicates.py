from datetime import UTC, date, datetime, timedelta, timezone
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.base import InputError, SchemaError
from shoal.data.sampling.predicates import checked_predicate, holds, predicate_columns
from shoal.data.schema import Column, Schema

SCHEMA = Schema(
    (
        Column(name="age", dtype="int64", nullable=True),
        Column(name="city", dtype="string"),
        Column(name="when", dtype="timestamp"),
        Column(name="is_new", dtype="bool"),
        Column(name="image", dtype="uint8", shape=(2,)),
        Column(name="any", dtype="int64"),
    )
)
BATCH = pa.RecordBatch.from_pydict(
    {
        "age": pa.array([10, 20, None, 40]),
        "city": ["Oslo", "Rome", "Oslo", "Bern"],
        "when": pa.array([datetime(2026, 1, day) for day in (1, 2, 3, 4)], pa.timestamp("us")),
        "is_new": [True, False, True, False],
        "image": pa.array([[1, 2]] * 4, pa.list_(pa.uint8(), 2)),
        "any": [1, 2, 3, 4],
    }
)


def kept(predicate: Any) -> list[int]:
    checked = checked_predicate(predicate, SCHEMA)
    return np.flatnonzero(holds(checked, BATCH, SCHEMA)).tolist()


@pytest.mark.parametrize(
    ("predicate", "rows"),
    [
        (("age", ">=", 20), [1, 3]),
        (("age", "!=", 20), [0, 3]),
        (("age", "in", {20, 40}), [1, 3]),
        (("age", "not in", [20]), [0, 3]),
        (("age", "is null"), [2]),
        (("age", "is not null"), [0, 1, 3]),
        (("age", "<", 20.5), [0, 1]),
        (("city", "==", "Oslo"), [0, 2]),
        (("city", "in", []), []),
        (("is_new", "==", False), [1, 3]),
        (("when", "<", datetime(2026, 1, 3)), [0, 1]),
        (("when", "<", datetime(2026, 1, 3, 2, tzinfo=timezone(timedelta(hours=2)))), [0, 1]),
        (("when", ">=", "2026-01-03"), [2, 3]),
        (("when", ">=", date(2026, 1, 3)), [2, 3]),
        (("when", ">=", np.datetime64("2026-01-03")), [2, 3]),
        (("when", ">=", datetime(2026, 1, 3, tzinfo=UTC)), [2, 3]),
        (("any", (("age", "<", 15)), ("city", "==", "Bern")), [0, 3]),
        (("all", ("age", ">", 15), ("city", "==", "Bern")), [3]),
        (("not", ("age", ">", 15)), [0]),
        (("any", ">", np.int64(2)), [2, 3]),
    ],
)
def test_a_condition_keeps_its_rows(predicate: Any, rows: list[int]) -> None:
    assert kept(predicate) == rows


@given(st.integers(-5, 50), st.sampled_from(["==", "!=", "<", "<=", ">", ">="]))
def test_a_condition_its_negation_and_the_missing_share_all_rows(value: int, comparison: str) -> None:
    condition = ("age", comparison, value)

    parts = [kept(condition), kept(("not", condition)), kept(("age", "is null"))]

    assert sorted(chain(*parts)) == [0, 1, 2, 3]


def test_only_the_columns_that_are_named_are_read() -> None:
    checked = checked_predicate(("any", ("age", ">", 1), ("not", ("any", "==", 2))), SCHEMA)

    assert predicate_columns(checked) == {"age", "any"}


@pytest.mark.parametrize(
    "predicate",
    [
        "age > 1",
        ("age", "=>", 1),
        ("age", ">", "old"),
        ("age", ">", True),
        ("age", ">", float("nan")),
        ("age", ">", None),
        ("city", "==", 3),
        ("city", "in", "Oslo"),
        ("when", "<", "soon"),
        ("when", "<", 5),
        ("image", "==", 1),
        ("city", "==", "\ud800"),
        ("when", "<", "0001-01-01T00:00:00+05:00"),
        ("not",),
    ],
)
def test_what_makes_no_condition_is_refused(predicate: Any) -> None:
    with pytest.raises(InputError):
        checked_predicate(predicate, SCHEMA)


def test_an_unknown_column_is_named() -> None:
    with pytest.raises(SchemaError, match="'height'"):
        checked_predicate(("height", ">", 1), SCHEMA)


WIDE = Schema((Column(name="i", dtype="int64"), Column(name="u", dtype="uint64"), Column(name="h", dtype="float16")))
WIDE_BATCH = pa.RecordBatch.from_arrays(
    [
        pa.array([-(2**63), 5, 6, 2**53 + 1, 2**63 - 1]),
        pa.array([0, 5, 2**53 + 1, 2**63, 2**64 - 1], pa.uint64()),
        pa.array(np.array([0.0, -0.0, 0.1, 5, np.nan], np.float16)),
    ],
    schema=WIDE.arrow(),
)


@pytest.mark.parametrize(
    ("predicate", "rows"),
    [
        (("i", "<", 5.5), [0, 1]),
        (("i", ">", 2.0**53), [3, 4]),
        (("i", "<", 2**80), [0, 1, 2, 3, 4]),
        (("i", "==", 1e300), []),
        (("i", "in", [5, 5.5, 2**64]), [1]),
        (("i", "not in", [5, 2**64]), [0, 2, 3, 4]),
        (("u", ">", -1), [0, 1, 2, 3, 4]),
        (("u", "==", 2**64 - 1), [4]),
        (("u", "<", -0.5), []),
        (("u", "in", [2**64 - 1, -1]), [4]),
        (("h", "==", 0), [0, 1]),
        (("h", "in", [0.0, 0.1]), [0, 1, 2]),
        (("h", "<", 5), [0, 1, 2]),
    ],
)
def test_numbers_of_any_size_are_compared_exactly(predicate: Any, rows: list[int]) -> None:
    checked = checked_predicate(predicate, WIDE)

    assert np.flatnonzero(holds(checked, WIDE_BATCH, WIDE)).tolist() == rows


def test_depth_is_bounded() -> None:
    deep: Any = ("age", ">", 1)
    for _ in range(10_000):
        deep = ("not", deep)

    with pytest.raises(InputError, match="nested more than 32 deep"):
        checked_predicate(deep, SCHEMA)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=3)
    | st.sampled_from(
        ["age", "city", "when", "is_new", "image", "==", "<", "in", "all", "not", "is null", "2026-01-03"]
    ),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
    max_leaves=12,
)


@given(where=JSON | st.lists(JSON, min_size=2, max_size=3))
def test_whatever_an_address_says_is_a_condition_or_refused(where: Any) -> None:
    try:
        checked = checked_predicate(where, SCHEMA)
    except (InputError, SchemaError):
        return
    assert len(holds(checked, BATCH, SCHEMA)) == 4
