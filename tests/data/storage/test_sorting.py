import itertools
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from shoal.base import StorageFullError
from shoal.data.schema import HASH_SPAN, schema_from_arrow
from shoal.data.storage.shard import FULL_RANGE
from shoal.data.storage.sorting import SortedRuns

Rows = dict[str, np.ndarray]


def runs_of(batch: pa.RecordBatch, hashes: np.ndarray, folder: Path, run_bytes: int) -> SortedRuns:
    folder.mkdir()
    runs = SortedRuns(schema_from_arrow(batch.schema), folder, run_bytes)
    for start in range(0, batch.num_rows, 50):
        runs.add(batch.slice(start, 50), hashes[start : start + 50])
    runs.finish()
    return runs


@pytest.fixture
def batch(make_rows: Callable[..., Rows], to_batch: Callable[[Rows], pa.RecordBatch]) -> pa.RecordBatch:
    return to_batch(make_rows(400))


@pytest.fixture
def hashes() -> np.ndarray:
    """Many rows share a hash, as rows with the same key do."""
    return np.random.default_rng(0).integers(0, 40, 400).astype(np.uint64) * np.uint64(HASH_SPAN // 41)


def test_gives_all_rows_sorted_and_equal_hashes_in_order_of_arrival(
    batch: pa.RecordBatch, hashes: np.ndarray, tmp_path: Path
) -> None:
    runs = runs_of(batch, hashes, tmp_path / "runs", run_bytes=3_000)

    found = runs.between(FULL_RANGE)

    order = np.argsort(hashes, kind="stable")
    assert len(list((tmp_path / "runs").iterdir())) > 2
    assert found.column("user").to_pylist() == batch.column("user").take(pa.array(order)).to_pylist()


def test_the_size_of_runs_does_not_show_in_the_bytes(batch: pa.RecordBatch, hashes: np.ndarray, tmp_path: Path) -> None:
    middle = (HASH_SPAN // 4, HASH_SPAN // 2)

    found = [
        runs_of(batch, hashes, tmp_path / str(run_bytes), run_bytes).between(middle).serialize().to_pybytes()
        for run_bytes in (1, 5_000, 1 << 20)
    ]

    assert found[0] == found[1] == found[2]


def test_ranges_that_meet_share_no_row(batch: pa.RecordBatch, hashes: np.ndarray, tmp_path: Path) -> None:
    runs = runs_of(batch, hashes, tmp_path / "runs", run_bytes=3_000)
    borders = [index * HASH_SPAN // 7 for index in range(8)]

    parts = [runs.between((low, high)) for low, high in itertools.pairwise(borders)]

    assert sorted(user for part in parts for user in part.column("user").to_pylist()) == sorted(
        batch.column("user").to_pylist()
    )


def test_an_empty_range_gives_no_rows(batch: pa.RecordBatch, hashes: np.ndarray, tmp_path: Path) -> None:
    assert runs_of(batch, hashes, tmp_path / "runs", 1 << 20).between((1, 2)).num_rows == 0


def test_a_full_disk_is_reported_with_the_file(
    batch: pa.RecordBatch, hashes: np.ndarray, tmp_path: Path, full_disk: Callable[[int], AbstractContextManager[None]]
) -> None:
    with full_disk(1_000), pytest.raises(StorageFullError, match="run-0"):
        runs_of(batch, hashes, tmp_path / "runs", run_bytes=3_000)
