from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shoal.base import ConfigError, InputError
from shoal.data import Dataset, Weighted, ingest


def bound(order: Weighted, dataset: Dataset, seed: int = 0) -> Any:
    return order.bind(dataset, 64, seed)


def test_rows_come_in_proportion_to_their_weights(people: Dataset) -> None:
    weights = people.arrays(["weight"])["weight"]
    order = bound(Weighted("weight", num_rows=600_000), people)

    counts = np.bincount(order.rows(0, 0, 600_000), minlength=3_000)

    expected = weights / weights.sum() * 600_000
    # Chi-square of 2,999 degrees of freedom has a standard deviation of 77: six of them, for one fixed seed.
    assert abs(((counts - expected) ** 2 / expected).sum() - 2_999) < 6 * 78


def test_a_row_of_weight_zero_never_comes(tmp_path: Path) -> None:
    dataset = ingest({"w": np.array([0.0, 1.0, 0.0, 3.0, 0.0]), "n": np.arange(5)}, tmp_path / "d")
    weights = dataset.arrays(["w"])["w"]

    rows = bound(Weighted("w", num_rows=10_000), dataset).rows(0, 0, 10_000)

    assert set(weights[rows]) == {1.0, 3.0}
    assert abs((weights[rows] == 3).mean() - 0.75) < 0.02


def test_classes_come_in_proportion_to_their_weights(people: Dataset) -> None:
    labels = people.arrays(["label"])["label"]
    order = bound(Weighted("label", weights={0: 1, 1: 1, 2: 1, 3: 1, 4: 20}, num_rows=100_000), people)

    shares = np.bincount(labels[order.rows(0, 0, 100_000)]) / 100_000

    masses = np.bincount(labels) * [1, 1, 1, 1, 20]
    assert np.allclose(shares, masses / masses.sum(), atol=0.008)


def test_balanced_classes_come_equally_often_and_their_rows_too(people: Dataset) -> None:
    labels = people.arrays(["label"])["label"]

    rows = bound(Weighted("label", weights="balanced", num_rows=100_000), people).rows(0, 0, 100_000)

    assert np.allclose(np.bincount(labels[rows]) / 100_000, 0.2, atol=0.006)
    rare = np.bincount(rows, minlength=3_000)[labels == 4]
    assert rare.min() > 0.8 * rare.mean()


@pytest.mark.parametrize("order", [Weighted("weight"), Weighted("label", weights="balanced")])
def test_any_stretch_is_the_same_however_it_is_cut(people: Dataset, order: Weighted) -> None:
    whole = bound(order, people).rows(2, 0, 3_000)

    cut = bound(order, people)
    pieces = [cut.rows(2, start, start + 7) for start in range(0, 3_010, 7)]

    assert np.array_equal(np.concatenate(pieces), whole)
    assert not np.array_equal(bound(order, people).rows(3, 0, 3_000), whole)
    assert not np.array_equal(bound(order, people, seed=1).rows(2, 0, 3_000), whole)


def test_a_loader_resumes_and_says_which_order_it_has(people: Dataset) -> None:
    order = Weighted("label", weights={0: 1, 1: 2, 2: 3, 3: 4, 4: 5}, num_rows=1_000)
    loader = people.loader(batch_size=100, order=order, format="numpy")
    batches = iter(loader)
    next(batches)

    resumed = people.loader(batch_size=100, order=order, format="numpy")
    resumed.load_state_dict(loader.state_dict())

    assert len(loader) == 10
    assert np.array_equal(next(iter(resumed))["id"], next(batches)["id"])


@pytest.mark.parametrize("weight", [-1.0, float("nan"), float("inf")])
def test_an_impossible_weight_is_named_with_its_row(tmp_path: Path, weight: float) -> None:
    dataset = ingest({"w": np.array([weight])}, tmp_path / "d")

    with pytest.raises(InputError, match=f"row 0 has weight {weight}"):
        bound(Weighted("w"), dataset)


def test_a_missing_weight_is_refused(tmp_path: Path) -> None:
    dataset = ingest([{"w": 1.0}, {"w": None}], tmp_path / "d")

    with pytest.raises(InputError, match="has weight nan"):
        bound(Weighted("w"), dataset)


def test_what_gives_no_draws_is_refused(people: Dataset, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="all weights are 0"):
        bound(Weighted("w"), ingest({"w": np.zeros(3)}, tmp_path / "d"))
    with pytest.raises(InputError, match="no weight is given for 3, 4"):
        bound(Weighted("label", weights={0: 1, 1: 1, 2: 1}), people)
    with pytest.raises(InputError, match="all weights are 0"):
        bound(Weighted("label", weights=dict.fromkeys(range(5), 0)), people)
    with pytest.raises(InputError, match="expected numbers"):
        bound(Weighted("user"), people)
    with pytest.raises(ConfigError, match="num_rows=0"):
        Weighted("weight", num_rows=0)


def test_rows_without_a_number_are_a_class_that_can_be_weighed(tmp_path: Path) -> None:
    labels = np.array([1.0] * 30 + [np.nan] * 60 + [2.0] * 10)
    dataset = ingest({"label": labels, "n": np.arange(100)}, tmp_path / "nan", num_shards=3)
    only_nan = Weighted("label", weights={1.0: 0, 2.0: 0, float("nan"): 1})

    for order, expected in ((Weighted("label", weights="balanced"), 1 / 3), (only_nan, 1.0)):
        drawn = [batch["label"] for batch in dataset.loader(batch_size=50, order=order, format="numpy")]
        share = np.isnan(np.concatenate(drawn)).mean()
        # Six deviations of 100 draws.
        assert abs(share - expected) <= 6 * np.sqrt(0.25 / 100)
