from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest

from shoal.base import SourceError, digest_file
from shoal.data import Dataset, Source
from shoal.data.sources import FileSource, MemorySource, open_source
from shoal.testing import SourceContract

TABLE = pa.table({"x": [1, 2, 3], "t": ["a", "b", None]})


class TestFileSource(SourceContract):
    @pytest.fixture
    def source(self, tmp_path: Path) -> Source:
        return FileSource([write(TABLE, tmp_path / "a.parquet"), write(TABLE, tmp_path / "b.arrow")])


class TestMemorySource(SourceContract):
    @pytest.fixture
    def source(self) -> Source:
        return MemorySource(TABLE.to_batches(), "a table")


def read(given: object) -> pa.Table:
    return pa.Table.from_batches(list(open_source(given).record_batches()))


def write(table: pa.Table, path: Path) -> Path:
    if path.suffix == ".parquet":
        pyarrow.parquet.write_table(table, path)
    elif path.suffix == ".csv":
        pyarrow.csv.write_csv(table.drop_columns("t"), path)
    else:
        with pa.ipc.new_file(str(path), table.schema) as writer:
            writer.write_table(table)
    return path


@pytest.mark.parametrize("suffix", [".parquet", ".arrow", ".csv"])
def test_reads_files_by_their_suffix_and_tells_their_digest(tmp_path: Path, suffix: str) -> None:
    path = write(TABLE, tmp_path / f"rows{suffix}")
    source = open_source(path)

    rows = pa.Table.from_batches(list(source.record_batches()))

    assert rows.column("x").to_pylist() == [1, 2, 3]
    assert [(fact.path, fact.digest, fact.num_rows) for fact in source.facts()] == [(str(path), digest_file(path), 3)]


def test_reads_several_files_in_their_order(tmp_path: Path) -> None:
    paths = [write(TABLE.slice(index, 1), tmp_path / f"{index}.arrow") for index in (2, 0)]

    assert read([str(path) for path in paths]).column("x").to_pylist() == [3, 1]


@pytest.mark.parametrize(
    "given",
    [
        TABLE,
        TABLE.to_batches()[0],
        TABLE.to_batches(),
        (batch for batch in TABLE.to_batches()),
        TABLE.to_reader(),
        pd.DataFrame({"x": [1, 2, 3]}),
        pl.DataFrame({"x": [1, 2, 3]}),
        {"x": np.array([1, 2, 3])},
    ],
    ids=["table", "batch", "list", "generator", "reader", "pandas", "polars", "arrays"],
)
def test_takes_what_is_in_memory(given: object) -> None:
    assert read(given).column("x").to_pylist() == [1, 2, 3]


def test_another_dataset_is_a_source_that_tells_its_address(dataset: Dataset) -> None:
    source = open_source(dataset)

    num_rows = sum(batch.num_rows for batch in source.record_batches())

    assert num_rows == 500
    assert (source.facts()[0].path, source.facts()[0].digest) == (dataset.address, dataset.digest)


def test_arrays_of_more_dimensions_become_tensors() -> None:
    rows = read({"image": np.zeros((10, 2, 3), np.float32)})

    assert rows.schema.field("image").type == pa.fixed_shape_tensor(pa.float32(), (2, 3))


@pytest.mark.parametrize("suffix", [".parquet", ".arrow"])
def test_a_truncated_file_is_named(tmp_path: Path, suffix: str) -> None:
    path = write(TABLE, tmp_path / f"rows{suffix}")
    path.write_bytes(path.read_bytes()[:-20])

    with pytest.raises(SourceError, match=str(path)):
        read(path)


def test_a_ragged_csv_names_the_file_and_the_row(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("a,b\n1,2\n3\n")

    with pytest.raises(SourceError, match=r"rows\.csv.*[Rr]ow #3"):
        read(path)


@pytest.mark.parametrize(
    ("given", "found"),
    [
        (42, "a int"),
        ("absent.parquet", "no such file"),
        (".", "it is a folder"),
        ([{"x": 1}], "a dict"),
        ({"x": np.zeros(3), "y": np.zeros(2)}, "'y': 2"),
        ({}, "lengths: {}"),
        ({"x": np.float32(1)}, "'x': -1"),
        ({"x": np.zeros(2, complex)}, "array 'x'"),
    ],
)
def test_refuses_what_has_no_rows_and_says_what_it_found(given: object, found: str) -> None:
    with pytest.raises(SourceError, match=found):
        read(given)


def test_refuses_a_suffix_it_does_not_know(tmp_path: Path) -> None:
    (tmp_path / "rows.xlsx").touch()

    with pytest.raises(SourceError, match=r"\.xlsx.*\.parquet"):
        read(tmp_path / "rows.xlsx")


def test_reading_an_unreadable_file_keeps_the_systems_own_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_rows: Callable[..., object]
) -> None:
    path = write(TABLE, tmp_path / "rows.arrow")

    def refuse(path: str) -> None:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr("shoal.data.sources.pa.memory_map", refuse)

    with pytest.raises(PermissionError):
        read(path)
