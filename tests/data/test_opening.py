import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from shoal.base import CorruptError, InputError, NotFoundError, ShardMissingError, open_handle
from shoal.data import Dataset, ingest
from shoal.data import open as open_dataset

Rows = dict[str, np.ndarray]


def test_opens_the_newest_or_a_named_version(dataset: Dataset, make_rows: Callable[..., Rows]) -> None:
    grown = dataset.append(make_rows(10, seed=1))

    assert open_dataset(dataset.path) == grown
    assert open_dataset(f"{dataset.path}@1") == dataset
    assert open_dataset(str(dataset.path), version=1) == dataset


def test_a_relative_path_is_made_absolute(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(dataset.path.parent)

    assert open_dataset("clicks@1") == dataset


def test_an_at_sign_in_a_folders_name_is_its_name(tmp_path: Path, make_rows: Callable[..., Rows]) -> None:
    made = ingest(make_rows(5), tmp_path / "clicks@2")

    assert open_dataset(tmp_path / "clicks@2") == made
    assert open_dataset(made.address) == made


def test_a_handle_opens_a_part_again(dataset: Dataset) -> None:
    part = dataset.split(0.25, 0.75)[1]

    opened = open_handle(part.kind, part.address, part.digest)

    assert opened == part


def test_a_handle_whose_content_changed_is_refused(dataset: Dataset) -> None:
    with pytest.raises(CorruptError, match="holds other rows than recorded"):
        open_handle("dataset", dataset.address, "b3:other")


def test_a_handle_whose_shard_is_gone_is_refused(dataset: Dataset) -> None:
    dataset.shard_path(dataset.shards[2]).unlink()

    with pytest.raises(ShardMissingError, match=dataset.shards[2].file_name):
        open_handle("dataset", dataset.address, dataset.digest)


def test_a_handle_whose_shard_was_cut_is_refused(dataset: Dataset) -> None:
    os.truncate(dataset.shard_path(dataset.shards[2]), 100)

    with pytest.raises(CorruptError, match=r"it has 100 bytes") as caught:
        open_handle("dataset", dataset.address, dataset.digest)

    assert "force=True" in caught.value.next_step


def test_a_handle_of_a_part_needs_only_its_own_shards(dataset: Dataset) -> None:
    part = dataset.split(0.25, 0.75)[0]
    dataset.shard_path(dataset.shards[3]).unlink()

    assert open_handle("dataset", part.address, part.digest) == part


@pytest.mark.parametrize("path", ["nothing", "nothing@3", "nothing@3#0-1"])
def test_nothing_there_is_said_so(tmp_path: Path, path: str) -> None:
    with pytest.raises(NotFoundError, match="no dataset in this folder"):
        open_dataset(tmp_path / path)


@pytest.mark.parametrize("hash_range", ["5-4", "0-1ffffffffffffffff"])
def test_an_impossible_range_is_refused(dataset: Dataset, hash_range: str) -> None:
    with pytest.raises(InputError, match="names no range"):
        open_dataset(f"{dataset.address}#{hash_range}")


def test_two_versions_at_once_are_refused(dataset: Dataset) -> None:
    with pytest.raises(InputError, match="version=2"):
        open_dataset(dataset.address, version=2)


# As a worker of a training does it, which waits for every import.
READING = """
import sys
import shoal.data
loader = shoal.data.open(sys.argv[1]).loader(batch_size=8, shuffle=True, format="numpy", columns=["image", "label"])
batch = loader.stretch(0, 0, 8, 0, 1)
assert len(batch["label"]) == 8, batch
print(*sys.modules)
"""
# Each of them takes longer to load than a dataset to open.
HEAVY = (
    "pyarrow", "pandas", "obstore", "safetensors", "sqlalchemy", "PIL", "shoal.data.columns", "shoal.data.hashing",
    "shoal.data.ingestion", "shoal.data.prepare", "shoal.data.quality", "shoal.data.remote.objects",
    "shoal.data.remote.shadow", "shoal.data.sources.base", "shoal.data.sources.opening", "shoal.data.statistics",
    "shoal.data.versions.mirror", "shoal.runtime.code", "shoal.runtime.local",
)  # fmt: skip


@pytest.mark.parametrize("part", [lambda whole: whole, lambda whole: whole.split(0.5, 0.5)[1]], ids=["whole", "side"])
def test_whoever_reads_rows_of_a_folder_loads_neither_arrow_nor_what_makes_datasets(
    dataset: Dataset, part: Callable[[Dataset], Dataset]
) -> None:
    address = part(dataset).address

    done = subprocess.run([sys.executable, "-c", READING, address], capture_output=True, text=True)

    assert done.returncode == 0, done.stderr
    assert not set(HEAVY) & set(done.stdout.split())
