import os
import subprocess
import sys
from collections import namedtuple
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from shoal.base import SourceError
from shoal.data import RowsSource, Source
from shoal.testing import SourceContract

Rows = Callable[[Source], list[dict[str, object]]]
Told = Callable[[Source], list[tuple[int, str, str]]]


class TestRowsSource(SourceContract):
    @pytest.fixture
    def make_source(self) -> Callable[[], Source]:
        return lambda: RowsSource({"x": index, "t": str(index)} for index in range(10_000))


@dataclass
class Click:
    x: int
    t: str


Named = namedtuple("Named", ["x", "t"])


@pytest.mark.parametrize(
    ("row", "names"),
    [({"x": 1, "t": "a"}, None), (Click(1, "a"), None), (Named(1, "a"), None), ((1, "a"), ["x", "t"])],
    ids=["dict", "data class", "named tuple", "tuple"],
)
def test_takes_rows_of_every_kind(rows_of: Rows, row: object, names: list[str] | None) -> None:
    assert rows_of(RowsSource([row], names=names)) == [{"x": 1, "t": "a"}]


def test_keys_may_be_missing_and_nested(rows_of: Rows) -> None:
    assert rows_of(RowsSource([{"p": {"q": 1}}, {"l": [1, 2]}])) == [
        {"p.q": 1, "l": None},
        {"p.q": None, "l": [1, 2]},
    ]


def test_a_late_row_that_does_not_fit_is_named_or_put_aside(rows_of: Rows, told: Told) -> None:
    rows = [{"x": index} for index in range(9_000)]
    rows[8_500] = {"x": "late"}
    rows[8_600] = {"y": 1}

    with pytest.raises(SourceError, match="row 8500 of rows in memory: column 'x' is 'late', expected int64"):
        rows_of(RowsSource(rows))
    source = RowsSource(rows, on_bad="quarantine")

    assert len(rows_of(source)) == 8_998
    assert [position for position, _, _ in told(source)] == [8_500, 8_600]


def test_good_rows_keep_their_numbers_behind_bad_ones(lines_of: Callable[[Source], list[int]]) -> None:
    source = RowsSource([{"x": 1}, {"x": 300}, {"x": 3}], dtypes={"x": "int8"}, on_bad="drop")

    assert lines_of(source) == [0, 2]


@pytest.mark.parametrize(
    ("rows", "found"),
    [([5], "it is a int"), ([(1, 2)], "it is a tuple"), ([{"x": 1}, {"x": "a"}], "column of 'x'")],
)
def test_what_is_no_row_is_told(rows: list[object], found: str) -> None:
    with pytest.raises(SourceError, match=found):
        list(RowsSource(rows).record_batches())


def test_columns_stand_in_the_same_order_in_every_process() -> None:
    program = (
        "from shoal.data import RowsSource\n"
        "dtypes = dict.fromkeys(['p', 'q', 'r', 's', 't'], 'int64')\n"
        "print(next(RowsSource([{'x': 1}], dtypes=dtypes).record_batches()).schema.names)\n"
    )
    told = [
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2", "3")
    ]

    assert told == ["['x', 'p', 'q', 'r', 's', 't']\n"] * 3


def test_numbers_and_text_in_one_column_are_text_where_that_is_declared(rows_of: Rows) -> None:
    rows = [{"a": 1}, {"a": "z"}, {"a": None}, {"a": 0.5}]

    with pytest.raises(SourceError) as caught:
        rows_of(RowsSource(rows))

    assert "shoal.data.RowsSource(rows, dtypes={'a': \"string\"})" in caught.value.next_step
    declared = RowsSource(rows, dtypes={"a": "string"})
    assert rows_of(declared) == [{"a": "1"}, {"a": "z"}, {"a": None}, {"a": "0.5"}]
