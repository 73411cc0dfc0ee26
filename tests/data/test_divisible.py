import pickle
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest

from shoal.base import InputError, SchemaError, StorageFullError, UnsupportedError, open_handle
from shoal.data import Dataset, Schema, ingest
from shoal.data import open as open_dataset

Rows = dict[str, np.ndarray]


@pytest.fixture
def rows() -> Rows:
    rng = np.random.default_rng(0)
    return {
        "id": np.arange(4_000),
        "label": rng.choice(4, 4_000, p=[0.6, 0.3, 0.09, 0.01]),
        "user": rng.integers(0, 80, 4_000),
        "when": np.datetime64("2026-01-01", "us") + rng.permutation(4_000).astype("timedelta64[h]"),
    }


@pytest.fixture
def events(tmp_path: Path, rows: Rows) -> Dataset:
    return ingest(rows, tmp_path / "events", num_shards=3)


def ids(dataset: Dataset) -> list[int]:
    return [value for batch in dataset.batches(["id"]) for value in batch.column(0).to_pylist()]


def more(rows: Rows, num_rows: int = 1_000) -> Rows:
    fresh = {name: values[:num_rows] for name, values in rows.items()}
    return {**fresh, "id": np.arange(10_000, 10_000 + num_rows), "user": fresh["user"] + 40}


def test_a_row_never_leaves_a_sample_by_an_append(events: Dataset, rows: Rows) -> None:
    before = ids(events.sample(0.2, seed=3))

    after = ids(events.append(more(rows)).sample(0.2, seed=3))

    assert set(before) <= set(after)
    assert set(after) - set(before) <= set(range(10_000, 11_000))
    assert abs(len(before) - 800) < 4 * (4_000 * 0.2 * 0.8) ** 0.5


def test_seeds_sample_differently_and_evenly_over_shards(events: Dataset) -> None:
    one, other = set(ids(events.sample(0.5, seed=1))), set(ids(events.sample(0.5, seed=2)))

    assert abs(len(one & other) - 1_000) < 150
    assert one != other


def test_a_fraction_contains_each_smaller_one(events: Dataset) -> None:
    assert set(ids(events.sample(0.1))) < set(ids(events.sample(0.3)))
    assert ids(events.sample(1.0)) == ids(events)


def test_a_number_of_rows_is_exact(events: Dataset) -> None:
    assert len(set(ids(events.sample(123)))) == events.sample(123).num_rows == 123


def test_a_sample_by_label_keeps_the_shares_exactly(events: Dataset, rows: Rows) -> None:
    sample = events.sample(0.1, by="label")

    taken = np.bincount(rows["label"][ids(sample)], minlength=4)
    assert sample.num_rows == 400
    assert (np.abs(taken - np.bincount(rows["label"]) / 10) < 1).all()


@pytest.mark.parametrize("amount", [0, 0.0, 1.5, -1, True])
def test_an_impossible_amount_is_refused(events: Dataset, amount: float) -> None:
    with pytest.raises(InputError, match="cannot sample"):
        events.sample(amount)


def test_groups_stay_on_their_side_as_data_grows(events: Dataset, rows: Rows) -> None:
    old = events.split(0.7, 0.3, by="user")
    new = events.append(more(rows)).split(0.7, 0.3, by="user")

    users = [{user for batch in side.batches(["user"]) for user in batch.column(0).to_pylist()} for side in new]
    assert users[0].isdisjoint(users[1])
    assert [set(ids(side)) for side in old] == [set(ids(side)) & set(range(4_000)) for side in new]
    assert sum(side.num_rows for side in new) == 5_000


def test_another_seed_splits_groups_differently(events: Dataset) -> None:
    one, other = (events.split(0.5, 0.5, by="user", seed=seed)[0] for seed in (0, 1))

    assert set(ids(one)) != set(ids(other))


def test_a_split_of_a_sample_shares_its_rows(events: Dataset) -> None:
    sample = events.sample(0.5)

    sides = sample.split(0.8, 0.2)

    assert sorted(ids(sides[0]) + ids(sides[1])) == sorted(ids(sample))
    assert set(ids(sides[0])) <= set(ids(events.split(0.8, 0.2)[0]))


def test_time_splits_at_fractions_and_keeps_the_cuts(events: Dataset, rows: Rows) -> None:
    past, recent = events.split_by_time("when", 0.75, 0.25)

    again = open_dataset(recent.address)

    assert (past.num_rows, recent.num_rows) == (3_000, 1_000)
    assert rows["when"][ids(past)].max() < rows["when"][ids(again)].min()


def test_time_splits_at_given_cuts_and_a_row_at_a_cut_is_later(events: Dataset, rows: Rows) -> None:
    cut = rows["when"][0]

    past, recent = events.split_by_time("when", at=[cut])

    assert ids(past) == [index for index in ids(events) if rows["when"][index] < cut]
    assert 0 in ids(recent)


@pytest.mark.parametrize(
    ("column", "fractions", "at"),
    [
        ("when", (0.5, 0.5), ["2026-01-05"]),
        ("when", (), ()),
        ("when", (0.5, 0.4), ()),
        ("when", (), ["2026-01-05", "2026-01-04"]),
        ("when", (), ["soon"]),
    ],
)
def test_impossible_times_are_refused(
    events: Dataset, column: str, fractions: tuple[float, ...], at: tuple[str, ...]
) -> None:
    with pytest.raises(InputError):
        events.split_by_time(column, *fractions, at=at)


def test_rows_without_a_time_are_counted_and_refused(tmp_path: Path) -> None:
    dataset = ingest([{"t": 1.0}, {"t": None}, {"t": 3.0}], tmp_path / "times")

    with pytest.raises(InputError, match="1 rows have no t"):
        dataset.split_by_time("t", at=[2])
    known = dataset.filter(("t", "is not null")).split_by_time("t", at=[2])
    assert [side.num_rows for side in known] == [1, 1]


def test_a_subset_is_found_again_by_its_address(events: Dataset) -> None:
    subset = events.filter(("label", "in", [1, 2])).sample(0.5).split(0.5, 0.5)[1]

    opened = open_handle(subset.kind, subset.address, subset.digest)

    assert opened == subset
    assert ids(opened) == ids(pickle.loads(pickle.dumps(subset)))


def test_lost_bits_are_made_again(events: Dataset) -> None:
    subset = events.sample(0.3)
    expected = ids(subset)

    shutil.rmtree(events.path / "subsets")

    assert ids(open_dataset(subset.address)) == expected


def test_a_full_disk_leaves_nothing_half_made(
    events: Dataset, full_disk: Callable[[int], AbstractContextManager[None]]
) -> None:
    with full_disk(300), pytest.raises(StorageFullError):
        _ = events.sample(0.3).num_rows

    assert list((events.path / "subsets").iterdir()) == []
    assert events.sample(0.3).num_rows > 0


def test_a_subset_reads_like_any_dataset(events: Dataset, rows: Rows) -> None:
    subset = events.filter(("label", "==", 2))

    assert subset.arrays(["id"])["id"].tolist() == ids(subset)
    assert subset.row(3)["id"] == ids(subset)[3]
    assert subset.profile.columns["label"].count == subset.num_rows
    with pytest.raises(InputError, match="cannot take rows"):
        subset.take(np.array([subset.num_rows]))
    with pytest.raises(UnsupportedError, match="a part of a dataset"):
        subset.append(rows)


def test_a_loader_of_a_subset_gives_each_of_its_rows_once(events: Dataset) -> None:
    subset = events.sample(0.4)
    loader = subset.loader(batch_size=64, shuffle=True, format="numpy")

    seen = np.concatenate([batch["id"] for batch in loader])

    assert sorted(seen.tolist()) == sorted(ids(subset))
    assert seen.tolist() != ids(subset)


def test_a_filter_that_keeps_nothing_is_a_dataset_without_rows(events: Dataset) -> None:
    nothing = events.filter(("label", ">", 99))

    assert (nothing.num_rows, ids(nothing)) == (0, [])


def test_columns_are_checked_before_anything_is_read(events: Dataset) -> None:
    shutil.rmtree(events.path / "shards")

    for call in (
        lambda: events.sample(0.1, by="lable"),
        lambda: events.filter(("lable", "==", 1)),
        lambda: events.split(0.5, 0.5, by="lable"),
    ):
        with pytest.raises(SchemaError, match="'lable'"):
            call()
    assert isinstance(events.sample(0.1).schema, Schema)
