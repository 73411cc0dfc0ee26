from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shoal.data import Dataset, ingest
from shoal.data.sampling import label_index as label_index_module
from shoal.data.sampling.label_index import label_index


@given(num_classes=st.integers(1, 40), num_rows=st.integers(1, 500), seed=st.integers(0, 9))
@settings(deadline=None, max_examples=15)
def test_finds_the_rows_of_every_class(
    tmp_path_factory: pytest.TempPathFactory, num_classes: int, num_rows: int, seed: int
) -> None:
    labels = np.random.default_rng(seed).integers(0, num_classes, num_rows)
    dataset = ingest({"label": labels, "n": np.arange(num_rows)}, tmp_path_factory.mktemp("d") / "d", num_shards=2)
    stored = dataset.arrays(["label"])["label"]

    index = label_index(dataset, "label")

    for code, value in enumerate(index.classes.values.to_pylist()):
        places = np.arange(index.classes.counts[code])
        assert np.array_equal(index.rows(np.full(len(places), code), places), np.flatnonzero(stored == value))


def test_is_kept_and_opened_without_reading_a_row(people: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    first = label_index(people, "label")
    monkeypatch.setattr(label_index_module, "count_classes", None)

    again = label_index(people, "label")

    assert again.classes.values.equals(first.classes.values)
    assert np.array_equal(again.classes.counts, first.classes.counts)


def test_counts_the_rows_of_a_subset_alone(people: Dataset, column_of: Callable[[Dataset, str], np.ndarray]) -> None:
    subset = people.sample(0.3).filter(("label", "!=", 1))

    index = label_index(subset, "label")

    labels = column_of(subset, "label")
    assert index.classes.counts.sum() == subset.num_rows
    assert (labels[index.rows(np.zeros(5, np.int64), np.arange(5))] == 0).all()


def test_takes_two_bits_a_row_and_level(tmp_path: Path) -> None:
    dataset = ingest({"label": np.arange(40_000) % 8, "n": np.arange(40_000)}, tmp_path / "d")

    label_index(dataset, "label")

    (kept,) = (dataset.path / "subsets").glob("*.labels")
    assert kept.stat().st_size < 3 * 2 * (40_960 / 8 + 8 * 12) + 2_000
