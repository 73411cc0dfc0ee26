"""Datasets with classes, users and times, and a way to read their columns."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from shoal.data import Dataset, ingest

Rows = dict[str, np.ndarray]


@pytest.fixture(scope="session")
def make_people() -> Callable[..., Rows]:
    """Rows with a rare class, a user, an instant, a weight and a number of their own."""

    def make(num_rows: int, seed: int = 0) -> Rows:
        rng = np.random.default_rng(seed)
        return {
            "id": np.arange(num_rows) + seed * 1_000_000,
            "label": rng.choice(5, num_rows, p=[0.5, 0.3, 0.15, 0.04, 0.01]),
            "user": np.array([f"user-{index}" for index in rng.integers(0, 60, num_rows)], object),
            "when": np.datetime64("2026-01-01", "us") + rng.integers(0, 10**9, num_rows).astype("timedelta64[us]"),
            "weight": rng.random(num_rows),
        }

    return make


@pytest.fixture
def people(tmp_path: Path, make_people: Callable[..., Rows]) -> Dataset:
    """3,000 rows in 4 shards."""
    return ingest(make_people(3_000), tmp_path / "people", num_shards=4)


@pytest.fixture(scope="session")
def column_of() -> Callable[[Dataset, str], np.ndarray]:
    """Read one column of all rows, in storage order."""

    def read(dataset: Dataset, name: str) -> np.ndarray:
        batches = list(dataset.batches([name]))
        if not batches:
            return np.empty(0)
        return pa.Table.from_batches(batches).column(0).to_numpy()

    return read
