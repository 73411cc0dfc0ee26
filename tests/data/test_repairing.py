import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import shoal.data
from shoal.base import CorruptError, NotFoundError
from shoal.data import Dataset
from shoal.data.versions.manifest import manifest_path

Rows = dict[str, np.ndarray]


@pytest.fixture
def grown(dataset: Dataset, make_rows: Callable[..., Rows], tmp_path: Path) -> Dataset:
    """Three versions, two of them deltas, with a second copy."""
    made = dataset.append(make_rows(30, seed=1), num_shards=2).append(make_rows(10, seed=2), num_shards=1)
    made.mirror(tmp_path / "copy")
    return made


def test_the_newest_version_comes_back_and_then_what_it_names(grown: Dataset) -> None:
    manifest_path(grown.path, 3).write_bytes(b"{}")
    grown.shard_path(grown.shards[0]).unlink()
    with pytest.raises(CorruptError):
        shoal.data.open(grown.path)

    restored = shoal.data.repair(grown.path)

    assert restored == ("versions/000003.json", f"shards/{grown.shards[0].file_name}")
    assert shoal.data.open(grown.path) == grown
    shoal.data.open(grown.path).verify()
    assert shoal.data.repair(grown.path) == ()


def test_versions_that_others_build_on_come_back_too(grown: Dataset) -> None:
    manifest_path(grown.path, 1).unlink()
    manifest_path(grown.path, 2).unlink()

    assert shoal.data.repair(f"{grown.path}@3") == ("versions/000002.json", "versions/000001.json")

    assert shoal.data.open(grown.path) == grown


def test_another_copy_may_be_named(dataset: Dataset, tmp_path: Path) -> None:
    shutil.copytree(dataset.path, tmp_path / "by-hand")
    manifest_path(dataset.path, 1).write_bytes(b"x")

    with pytest.raises(NotFoundError, match="no mirror") as caught:
        shoal.data.repair(dataset.path)
    assert "from_=" in caught.value.next_step
    assert shoal.data.repair(dataset.path, from_=tmp_path / "by-hand") == ("versions/000001.json",)

    assert shoal.data.open(dataset.path) == dataset


def test_a_copy_that_is_damaged_too_is_told(grown: Dataset, tmp_path: Path) -> None:
    for folder in (grown.path, tmp_path / "copy"):
        manifest_path(folder, 3).write_bytes(b"{}")

    with pytest.raises(CorruptError, match="versions/000003"):
        shoal.data.repair(grown.path)
