from pathlib import Path

import numpy as np
import pytest

from shoal.data import Dataset, ingest
from shoal.data.sampling import ordinals
from shoal.data.sampling.ordinals import earlier_rows
from shoal.data.schema import HASH_COLUMN


def stretches(dataset: Dataset) -> list:
    files = [dataset.open_shard(shard) for shard in dataset.shards]
    return [(file, 0, file.shard.num_rows) for file in files]


def grown(folder: Path, users: list[list[int]]) -> Dataset:
    made, counter = None, 0
    for part in users:
        rows = {"user": np.array(part), "n": np.arange(counter, counter + len(part))}
        counter += len(part)
        made = ingest(rows, folder, key="user") if made is None else made.append(rows, num_shards=2)
    assert made is not None
    return made


@pytest.mark.parametrize("range_rows", [4, 1 << 20])
def test_each_row_of_a_hash_counts_those_in_the_shards_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, range_rows: int
) -> None:
    monkeypatch.setattr(ordinals, "_RANGE_ROWS", range_rows)
    rng = np.random.default_rng(0)
    dataset = grown(tmp_path / "d", [rng.integers(0, 9, 20).tolist() for _ in range(5)])

    earlier = earlier_rows(stretches(dataset))

    seen: dict[int, int] = {}
    expected = []
    for file, _, _ in stretches(dataset):
        hashes = file.open_batches[0].batch.column(HASH_COLUMN).to_pylist()
        expected += [seen.get(one, 0) for one in hashes]
        for one in hashes:
            seen[one] = seen.get(one, 0) + 1
    assert earlier is not None
    assert earlier.tolist() == expected


def test_nothing_is_counted_where_every_hash_lies_in_one_shard(tmp_path: Path) -> None:
    dataset = ingest({"n": np.arange(500)}, tmp_path / "d", num_shards=4)

    assert earlier_rows(stretches(dataset)) is None


def test_what_is_appended_changes_no_number_before_it(tmp_path: Path) -> None:
    before = grown(tmp_path / "d", [[1, 1, 2], [1, 2, 2]])
    numbers = earlier_rows(stretches(before))
    after = before.append({"user": np.array([1, 2, 3]), "n": np.arange(3) + 100})

    assert numbers is not None
    assert earlier_rows(stretches(after))[: len(numbers)].tolist() == numbers.tolist()
