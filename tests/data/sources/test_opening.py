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
from shoal.data.sources.images import ImageFolderSource
from shoal.data.sources.opening import open_source
from shoal.testing import SourceContract

TABLE = pa.table({"x": [1, 2, 3], "t": ["a", "b", None]})


class TestFilesOfSeveralKinds(SourceContract):
    @pytest.fixture
    def make_source(self, tmp_path: Path) -> Callable[[], Source]:
        paths = [store(TABLE, tmp_path / "a.parquet"), store(TABLE, tmp_path / "b.arrow")]
        return lambda: open_source(paths)


def read(given: object) -> pa.Table:
    return pa.Table.from_batches(list(open_source(given).record_batches()))


def store(table: pa.Table, path: Path) -> Path:
    if path.suffix == ".parquet":
        pyarrow.parquet.write_table(table, path)
    elif path.suffix == ".csv":
        pyarrow.csv.write_csv(table, path)
    elif path.suffix == ".jsonl":
        path.write_text('{"x":1}\n{"x":2}\n{"x":3}\n')
    elif path.suffix == ".tsv":
        path.write_text("x\tt\n1\ta\n2\tb\n3\tc\n")
    else:
        with pa.ipc.new_file(str(path), table.schema) as writer:
            writer.write_table(table)
    return path


@pytest.mark.parametrize("suffix", [".parquet", ".arrow", ".csv", ".CSV", ".tsv", ".jsonl"])
def test_reads_files_by_their_suffix_and_tells_their_digest(tmp_path: Path, suffix: str) -> None:
    path = store(TABLE, tmp_path / f"rows{suffix.lower()}").rename(tmp_path / f"rows{suffix}")
    source = open_source(path)

    rows = pa.Table.from_batches(list(source.record_batches()))

    assert rows.column("x").to_pylist() == [1, 2, 3]
    assert [(fact.path, fact.digest, fact.num_rows) for fact in source.facts()] == [(str(path), digest_file(path), 3)]


def test_reads_several_files_in_their_order(tmp_path: Path) -> None:
    paths = [store(TABLE.slice(index, 1), tmp_path / f"{index}.arrow") for index in (2, 0)]

    assert read([str(path) for path in paths]).column("x").to_pylist() == [3, 1]


@pytest.mark.parametrize("given", ["*.arrow", "", "**/[01].arrow"])
def test_reads_patterns_and_folders_in_the_order_of_names(tmp_path: Path, given: str) -> None:
    for index in (1, 0):
        store(TABLE.slice(index, 1), tmp_path / f"{index}.arrow")

    assert read(str(tmp_path / given)).column("x").to_pylist() == [1, 2]


def test_a_folder_of_images_is_one_source(tmp_path: Path) -> None:
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "1.png").write_bytes(b"any bytes")

    assert isinstance(open_source(tmp_path), ImageFolderSource)


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
        {"x": [1, 2, 3]},
        [{"x": 1}, {"x": 2}, {"x": 3}],
        ({"x": index} for index in (1, 2, 3)),
    ],
    ids=[
        "table",
        "batch",
        "list",
        "generator",
        "reader",
        "pandas",
        "polars",
        "arrays",
        "lists",
        "dicts",
        "dict stream",
    ],
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
    path = store(TABLE, tmp_path / f"rows{suffix}")
    path.write_bytes(path.read_bytes()[:-20])

    with pytest.raises(SourceError, match=str(path)):
        read(path)


@pytest.mark.parametrize(
    ("given", "found"),
    [
        (42, "a int"),
        (b"bytes", "a bytes"),
        ("absent.parquet", "no such file"),
        ("absent*.parquet", r"absent\*\.parquet: no file matches"),
        ({"x": np.zeros(3), "y": np.zeros(2)}, "'y': 2"),
        ({}, "lengths: {}"),
    ],
)
def test_refuses_what_has_no_rows_and_says_what_it_found(given: object, found: str) -> None:
    with pytest.raises(SourceError, match=found):
        read(given)


def test_bad_rows_of_files_of_several_kinds_are_told(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x,t\n1,a\n2\n")
    source = open_source([tmp_path / "a.csv", store(TABLE, tmp_path / "b.arrow")])
    source.on_bad = "quarantine"

    num_rows = sum(batch.num_rows for batch in source.record_batches())

    assert num_rows == 4
    assert [row["position"] for batch in source.rejects() for row in batch.to_pylist()] == [3]


@pytest.mark.parametrize("name", ["rows.xlsx", "rows", "rows.xlsx.gz"])
def test_refuses_a_suffix_it_does_not_know(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()

    with pytest.raises(SourceError, match=r"its suffix is '(\.xlsx)?', expected one of \.parquet"):
        read(tmp_path / name)


def test_reading_an_unreadable_file_keeps_the_systems_own_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = store(TABLE, tmp_path / "rows.arrow")

    def refuse(path: str) -> None:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr("shoal.data.sources.arrow.pa.memory_map", refuse)

    with pytest.raises(PermissionError):
        read(path)
