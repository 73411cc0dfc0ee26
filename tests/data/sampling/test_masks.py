from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from shoal.base import InputError, UnsupportedError
from shoal.data import Dataset, ingest
from shoal.data import open as open_dataset

Rows = dict[str, np.ndarray]
Column = Callable[[Dataset, str], np.ndarray]


def test_an_unknown_recipe_is_refused(people: Dataset) -> None:
    with pytest.raises(InputError, match="there is no 'bootstrap'"):
        open_dataset(f"{people.address}#bootstrap(seed=1)")


def test_recipes_apply_one_after_the_other(people: Dataset, column_of: Column) -> None:
    common = people.filter(("label", "==", 0))
    some = common.sample(100)
    side = some.split(0.5, 0.5)[0]

    assert some.num_rows == 100
    assert set(column_of(some, "label")) == {0}
    assert 0 < side.num_rows < 100
    assert set(column_of(side, "id")) <= set(column_of(some, "id")) <= set(column_of(common, "id"))


def test_a_fraction_of_a_subset_is_the_subset_of_the_fraction(people: Dataset, column_of: Column) -> None:
    one_way = people.sample(0.3).filter(("label", ">", 0))
    other_way = people.filter(("label", ">", 0)).sample(0.3)

    assert np.array_equal(column_of(one_way, "id"), column_of(other_way, "id"))
    assert one_way.digest != other_way.digest


def test_missing_groups_stay_together(tmp_path: Path, column_of: Column) -> None:
    users = [None if index % 3 == 0 else f"u{index % 20}" for index in range(600)]
    dataset = ingest([{"id": index, "user": user} for index, user in enumerate(users)], tmp_path / "d")

    sides = dataset.split(0.5, 0.5, by="user")

    holders = [side for side in sides if side.filter(("user", "is null")).num_rows]
    assert sum(side.num_rows for side in sides) == 600
    assert len(holders) == 1


def test_a_filter_is_not_confused_by_rows_outside_the_parent(people: Dataset) -> None:
    rare = people.filter(("label", "==", 4)).sample(5, by="label")

    assert rare.num_rows == 5


def test_rows_in_order_of_arrival_can_be_sampled_and_grouped_but_not_split_by_hash(
    people: Dataset, tmp_path: Path, column_of: Column
) -> None:
    segment = tmp_path / "segment.arrow"
    with pa.OSFile(str(segment), "wb") as sink, pa.ipc.new_file(sink, people.schema.arrow()) as writer:
        for batch in people.batches(batch_rows=300):
            writer.write_batch(batch)
    adopted = Dataset.create_from_segments(tmp_path / "log", [segment])

    sample = adopted.sample(0.2)
    sides = adopted.split(0.5, 0.5, by="user")

    assert 0 < sample.num_rows < adopted.num_rows
    assert sum(side.num_rows for side in sides) == adopted.num_rows
    with pytest.raises(UnsupportedError, match="in order of arrival"):
        _ = sample.split(0.5, 0.5)[0].num_rows


def test_an_exact_sample_of_too_many_rows_is_refused(people: Dataset) -> None:
    with pytest.raises(InputError, match="cannot sample 3001 rows of 3000"):
        _ = people.sample(3_001).num_rows


@pytest.fixture
def one_key(tmp_path: Path) -> Dataset:
    """80 rows of one key in 8 shards, ten of each append."""
    made = ingest({"user": np.full(10, 7), "n": np.arange(10)}, tmp_path / "one", key="user")
    for part in range(1, 8):
        made = made.append({"user": np.full(10, 7), "n": np.arange(10) + part * 10})
    return made


def test_rows_of_a_key_in_many_shards_are_drawn_one_by_one(one_key: Dataset, column_of: Column) -> None:
    samples = {tuple(sorted(column_of(one_key.sample(3, seed=seed), "n").tolist())) for seed in range(6)}
    halves = [one_key.sample(0.5, seed=seed).num_rows for seed in range(20)]

    assert len(samples) == 6
    assert 30 < np.mean(halves) < 50
    assert min(halves) > 0
    assert max(halves) < 80
    assert any(count % 8 for count in halves)


def test_equal_rows_of_many_appends_are_drawn_one_by_one(tmp_path: Path) -> None:
    made = ingest({"n": np.array([5, 100])}, tmp_path / "equal")
    for part in range(1, 40):
        made = made.append({"n": np.array([5, 100 + part])})

    assert 5 < made.filter(("n", "==", 5)).sample(0.5).num_rows < 35


def test_a_fraction_of_a_key_keeps_its_rows_as_data_grows(one_key: Dataset, column_of: Column) -> None:
    before = set(column_of(one_key.sample(0.4), "n").tolist())
    grown = one_key.append({"user": np.full(10, 7), "n": np.arange(10) + 80})

    after = set(column_of(grown.sample(0.4), "n").tolist())

    assert before == {row for row in after if row < 80}


def test_every_row_of_one_key_is_drawn_as_often(one_key: Dataset, column_of: Column) -> None:
    counts = np.zeros(80)
    for seed in range(60):
        counts[column_of(one_key.sample(20, seed=seed), "n")] += 1

    # Binomial with 60 draws of chance 1/4: six deviations.
    assert np.abs(counts - 15).max() < 6 * np.sqrt(60 * 0.25 * 0.75)
