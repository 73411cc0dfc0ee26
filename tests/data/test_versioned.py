import pickle

import pytest

from shoal.base import UnsupportedError, open_handle
from shoal.data import Dataset
from shoal.data import open as open_dataset


def test_each_change_is_a_version_and_the_old_ones_stay(dataset: Dataset) -> None:
    made = dataset.evolve(add={"city": "string"}).reshard(num_shards=2)

    assert isinstance(made, Dataset)
    assert [open_dataset(dataset.path, number).manifest.change for number in (1, 2, 3)] == [
        "ingest",
        "evolve",
        "reshard",
    ]
    assert open_dataset(dataset.path) == made
    assert open_dataset(f"{dataset.path}@1") == dataset


def test_handles_of_parts_open_after_changes(dataset: Dataset) -> None:
    part = dataset.evolve(rename={"label": "class"}).split(0.25, 0.75)[1]

    opened = open_handle(part.kind, part.address, part.digest)

    assert opened == part
    assert pickle.loads(pickle.dumps(part)) == part


def test_balance_follows_from_the_manifest(dataset: Dataset) -> None:
    for shard in dataset.shards:
        dataset.shard_path(shard).unlink()

    assert sum(dataset.balance.rows) == 500


@pytest.mark.parametrize("action", ["evolve", "reshard", "diff"])
def test_parts_have_no_history_of_their_own(dataset: Dataset, action: str) -> None:
    part = dataset.split(0.5, 0.5)[0]
    call = {
        "evolve": lambda: part.evolve(drop=["label"]),
        "reshard": lambda: part.reshard(num_shards=2),
        "diff": lambda: part.diff(1),
    }

    with pytest.raises(UnsupportedError, match="a part of a dataset"):
        call[action]()


def test_a_part_verifies_and_repairs_its_own_shards(dataset: Dataset) -> None:
    part = dataset.split(0.25, 0.75)[0]
    dataset.shard_path(dataset.shards[3]).unlink()

    part.verify()
    assert part.repair() == ()


def test_history_tells_what_each_version_did(dataset: Dataset) -> None:
    made = dataset.evolve(add={"city": "string"}).reshard(num_shards=2)

    assert [version.change for version in made.history] == ["ingest", "evolve", "reshard"]
    assert made.history[-1] == made.manifest
    assert [version.version for version in dataset.history] == [1]
    assert dataset.num_refused == 0
