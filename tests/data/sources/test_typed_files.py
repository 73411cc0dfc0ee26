from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest

from shoal.base import SourceError
from shoal.data import ParquetSource, Source

Rows = Callable[[Source], list[dict[str, object]]]


def store(columns: dict[str, pa.Array], path: Path) -> Path:
    pyarrow.parquet.write_table(pa.table(columns), path)
    return path


def test_files_that_differ_have_one_schema(tmp_path: Path, rows_of: Rows) -> None:
    first = store({"x": pa.array([1], pa.int32()), "t": pa.array(["a"])}, tmp_path / "a.parquet")
    second = store({"x": pa.array([2], pa.int64())}, tmp_path / "b.parquet")

    assert rows_of(ParquetSource([first, second])) == [{"x": 1, "t": "a"}, {"x": 2, "t": None}]


def test_types_that_nothing_holds_are_told_with_the_file(tmp_path: Path, rows_of: Rows) -> None:
    first = store({"x": pa.array([1])}, tmp_path / "a.parquet")
    second = store({"x": pa.array(["b"])}, tmp_path / "b.parquet")

    with pytest.raises(SourceError, match=r"the columns of .*b\.parquet do not fit"):
        rows_of(ParquetSource([first, second]))


def test_a_file_that_changes_while_it_is_read_is_named(tmp_path: Path) -> None:
    path = store({"x": pa.array(range(200_000))}, tmp_path / "a.parquet")
    batches = ParquetSource(path).record_batches()

    next(batches)
    with path.open("ab") as file:
        file.write(b"more")

    with pytest.raises(SourceError, match=r"a\.parquet was changed while it was read"):
        list(batches)


def test_a_file_that_vanishes_is_named(tmp_path: Path, rows_of: Rows) -> None:
    source = ParquetSource(store({"x": pa.array([1])}, tmp_path / "a.parquet"))
    (tmp_path / "a.parquet").unlink()

    with pytest.raises((SourceError, FileNotFoundError), match=r"a\.parquet"):
        rows_of(source)
