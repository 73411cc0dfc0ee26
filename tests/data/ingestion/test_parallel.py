import os
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from shoal.base import SourceError, WorkerError
from shoal.data import ingest
from shoal.data.quality import Range, Unique, Where
from shoal.runtime import LocalRuntime, open_runtime

Rows = dict[str, np.ndarray]


@pytest.fixture
def files(tmp_path: Path, make_rows: Callable[..., Rows]) -> list[Path]:
    """Three CSV files, the middle one with another type of number at first sight."""
    paths = []
    for seed, scale in enumerate((1, 0.5, 1)):
        rows = make_rows(300, seed=seed)
        lines = [f"{user},{label * scale:g}" for user, label in zip(rows["user"], rows["label"], strict=True)]
        paths.append(tmp_path / f"{seed}.csv")
        paths[-1].write_text("\n".join(["user,label", *lines]) + "\n")
    return paths


def stored(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((folder / "shards").iterdir())}


@pytest.mark.slow  # processes
def test_files_read_by_several_processes_give_the_same_bytes(files: list[Path], tmp_path: Path) -> None:
    one = ingest(files, tmp_path / "one", key="user", num_shards=3)
    seen: list[int] = []

    several = ingest(files, tmp_path / "several", key="user", num_shards=3, workers=2, progress=seen.append)

    assert several.digest == one.digest
    assert several.sources == one.sources
    assert several.manifest.profile == one.manifest.profile
    assert stored(several.path) == stored(one.path)
    assert seen == [300, 600, 900]


@pytest.mark.slow
def test_row_groups_and_arrays_are_split(make_rows: Callable[..., Rows], tmp_path: Path) -> None:
    rows = {name: values for name, values in make_rows(40_000).items() if name != "image"}
    pa.parquet.write_table(pa.table(rows), tmp_path / "rows.parquet", row_group_size=5_000)

    made = [
        ingest(source, tmp_path / f"{index}-{workers}", num_shards=3, workers=workers)
        for index, source in enumerate((tmp_path / "rows.parquet", rows))
        for workers in (1, 2)
    ]

    assert len({dataset.digest for dataset in made}) == 1
    assert made[0].sources == made[1].sources
    assert made[2].sources == made[3].sources


@pytest.mark.slow
def test_refused_rows_of_all_parts_are_kept_with_their_places(files: list[Path], tmp_path: Path) -> None:
    rules = {"checks": [Range("label", 0, 8)], "on_bad": "quarantine"}

    one = ingest(files, tmp_path / "one", **rules)
    several = ingest(files, tmp_path / "several", workers=2, **rules)

    assert several.digest == one.digest
    assert several.manifest.refused == one.manifest.refused
    assert several.quarantine.digest == one.quarantine.digest


@pytest.mark.slow
def test_unique_keys_are_compared_across_all_parts(files: list[Path], tmp_path: Path) -> None:
    files[2].write_text(files[0].read_text())

    dataset = ingest(files, tmp_path / "b", checks=[Unique("user")], on_bad="drop", workers=2)

    assert dataset.num_rows == 600


@pytest.mark.slow
def test_what_a_part_says_is_what_the_user_reads(files: list[Path], tmp_path: Path) -> None:
    text = files[1].read_text().splitlines()
    files[1].write_text("\n".join([*text[:7], "too,many,values", *text[7:]]) + "\n")

    with pytest.raises(SourceError, match=r"1\.csv, line 8"):
        ingest(files, tmp_path / "b", workers=2)

    assert not (tmp_path / "b").exists()


def die(batch: pa.RecordBatch) -> np.ndarray:
    os.kill(os.getpid(), signal.SIGKILL)
    return np.ones(batch.num_rows, np.bool_)


@pytest.mark.slow
def test_a_killed_process_leaves_the_dataset_as_it_was(files: list[Path], tmp_path: Path) -> None:
    dataset = ingest(files[:1], tmp_path / "b")
    before = {path: path.read_bytes() for path in dataset.path.rglob("*") if path.is_file()}

    with pytest.raises(WorkerError, match="SIGKILL"):
        ingest(files, tmp_path / "b", workers=2, checks=[Where(die, "anything")])

    assert {path: path.read_bytes() for path in dataset.path.rglob("*") if path.is_file()} == before


@pytest.mark.slow
def test_a_source_that_cannot_be_split_is_read_by_one(make_rows: Callable[..., Rows], tmp_path: Path) -> None:
    batches = [pa.RecordBatch.from_pydict({"x": pa.array(np.arange(100) + start)}) for start in (0, 100)]

    dataset = ingest(batches, tmp_path / "b", workers=2, runtime=LocalRuntime())

    assert dataset.num_rows == 200


@pytest.mark.cluster
def test_a_ray_cluster_gives_the_same_bytes(files: list[Path], tmp_path: Path, ray_cluster: object) -> None:
    one = ingest(files, tmp_path / "one", num_shards=3)

    several = ingest(files, tmp_path / "several", num_shards=3, workers=2, runtime=open_runtime("ray"))

    assert several.digest == one.digest
    assert stored(several.path) == stored(one.path)
