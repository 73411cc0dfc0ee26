import itertools
from pathlib import Path

import numpy as np
import pytest

from shoal.base import InputError
from shoal.data import Dataset, Stratified, ingest


def test_each_batch_has_the_shares_of_the_dataset_and_each_row_comes_once(people: Dataset) -> None:
    loader = people.loader(batch_size=64, order=Stratified("label"), seed=1, format="numpy")
    shares = np.bincount(people.arrays(["label"])["label"]) / people.num_rows

    batches = list(loader)

    for batch in batches:
        counts = np.bincount(batch["label"], minlength=5)
        assert (np.abs(counts - shares * len(batch["label"])) < 1).all()
    assert sorted(np.concatenate([batch["id"] for batch in batches])) == list(range(3_000))


@pytest.mark.parametrize("world_size", [1, 2, 3, 7])
def test_ranks_together_get_the_same_batches_as_one(people: Dataset, world_size: int) -> None:
    whole = people.loader(batch_size=50, order=Stratified("label"), format="numpy")
    ranks = [
        people.loader(batch_size=50, order=Stratified("label"), rank=rank, world_size=world_size, format="numpy")
        for rank in range(world_size)
    ]

    for expected, *parts in itertools.islice(zip(whole, *ranks, strict=True), 20):
        assert np.array_equal(np.concatenate([part["id"] for part in parts]), expected["id"])


@pytest.mark.parametrize("stopped_after", [0, 1, 30, 46])
def test_resumes_at_any_batch(people: Dataset, stopped_after: int) -> None:
    first = people.loader(batch_size=64, order=Stratified("label"), seed=1, format="numpy")
    batches = itertools.chain(first, first)
    for _ in range(stopped_after):
        next(batches)
    state = first.state_dict()
    resumed = people.loader(batch_size=64, order=Stratified("label"), seed=1, format="numpy")
    resumed.load_state_dict(state)

    ahead = itertools.islice(itertools.chain(resumed, resumed), 40)

    for expected, found in zip(itertools.islice(batches, 40), ahead, strict=True):
        assert np.array_equal(found["id"], expected["id"])


def test_a_state_of_another_order_is_refused(people: Dataset) -> None:
    state = people.loader(batch_size=64, order=Stratified("label"), format="numpy").state_dict()
    other = people.loader(batch_size=64, shuffle=True, format="numpy")

    with pytest.raises(InputError, match="order"):
        other.load_state_dict(state)


def test_works_on_a_subset(people: Dataset) -> None:
    subset = people.sample(0.5).filter(("label", "in", [0, 3]))

    loader = subset.loader(batch_size=32, order=Stratified("label"), format="numpy")

    seen = np.concatenate([batch["id"] for batch in loader])
    assert sorted(seen) == sorted(subset.arrays(["id"])["id"])


def test_nan_is_a_class_like_any_other(tmp_path: Path) -> None:
    labels = np.where(np.arange(120) % 3 == 0, np.nan, np.arange(120) % 2).astype(np.float32)
    dataset = ingest({"label": labels, "n": np.arange(120)}, tmp_path / "nan", num_shards=3)

    batches = list(dataset.loader(batch_size=12, order=Stratified("label"), format="numpy"))

    assert sorted(np.concatenate([batch["n"] for batch in batches]).tolist()) == list(range(120))
    assert [int(np.isnan(batch["label"]).sum()) for batch in batches] == [4] * 10
    assert np.isnan(dataset.sample(30, by="label").arrays()["label"]).sum() == 10
