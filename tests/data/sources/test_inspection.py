from collections.abc import Callable
from pathlib import Path

import pytest

from shoal.base import SourceError
from shoal.data import CsvSource, inspect

Write = Callable[[str, bytes], Path]


def test_shows_types_and_first_rows(write: Write) -> None:
    path = write("a.csv", b"x,t\n1,a\n2,b\n3,c\n")

    found = inspect(path, num_rows=2)

    assert found.dtypes == {"x": "int64", "t": "string"}
    assert found.rows == ({"x": 1, "t": "a"}, {"x": 2, "t": "b"})
    assert str(found).splitlines()[0] == "x: int64"


def test_what_it_shows_can_be_given_back(write: Write) -> None:
    path = write("a.csv", b"x,t\n1,a\n")

    corrected = inspect(path).dtypes | {"x": "float32"}

    assert inspect(CsvSource(path, dtypes=corrected)).dtypes == {"x": "float32", "t": "string"}


def test_reads_again_when_a_later_value_is_wider(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shoal.data.sources.text._WHOLE_BYTES", 10)
    monkeypatch.setattr("shoal.data.sources.text._HEAD_BYTES", 20)
    path = write("a.csv", b"x\n" + b"1\n" * 20 + b"1.5\n")

    assert inspect(path).dtypes == {"x": "float64"}


def test_a_bad_source_is_told(write: Write) -> None:
    with pytest.raises(SourceError, match="it is empty"):
        inspect(write("a.csv", b""))


def test_nothing_has_no_columns() -> None:
    assert inspect([]).rows == ()
