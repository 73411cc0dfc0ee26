from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from shoal.base import InputError, StorageFullError
from shoal.data.hashing import row_hashes
from shoal.data.ingestion.sharding import Sharding, write_shards
from shoal.data.schema import HASH_SPAN, schema_from_arrow
from shoal.data.storage.sorting import SortedRuns


def test_ranges_are_of_equal_width_whatever_the_rows() -> None:
    assert Sharding(num_shards=2).ranges(1) == [(0, HASH_SPAN // 2), (HASH_SPAN // 2, HASH_SPAN)]
    assert len(Sharding(target_shard_bytes=100).ranges(450)) == 5


def test_impossible_sizes_are_refused() -> None:
    with pytest.raises(InputError, match="run_bytes=0"):
        Sharding(run_bytes=0)


def runs_of(batch: pa.RecordBatch, work: Path, key: str | None = None) -> SortedRuns:
    schema = schema_from_arrow(batch.schema)
    runs = SortedRuns(schema, work)
    runs.add(batch, row_hashes(batch, schema, key))
    runs.finish()
    return runs


def test_shards_stand_in_the_order_of_their_hashes_under_their_own_names(tmp_path: Path) -> None:
    batch = pa.RecordBatch.from_pydict({"x": np.arange(300)})

    shards = write_shards(runs_of(batch, tmp_path), schema_from_arrow(batch.schema), tmp_path, Sharding(num_shards=4))

    assert sum(shard.num_rows for shard in shards) == 300
    assert [shard.first_hash for shard in shards] == sorted(str(shard.first_hash) for shard in shards)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(shard.file_name for shard in shards)


def test_a_key_that_is_too_heavy_is_cut(tmp_path: Path) -> None:
    batch = pa.RecordBatch.from_pydict({"user": np.zeros(1_000, np.int64), "x": np.arange(1_000)})

    shards = write_shards(
        runs_of(batch, tmp_path, "user"), schema_from_arrow(batch.schema), tmp_path, Sharding(num_shards=4)
    )

    assert [shard.num_rows for shard in shards] == [250] * 4


def test_a_full_disk_is_told_by_whichever_thread_meets_it(tmp_path: Path, full_disk: Callable[[int], object]) -> None:
    batch = pa.RecordBatch.from_pydict({"x": np.arange(5_000)})
    runs = runs_of(batch, tmp_path)

    with full_disk(2_000), pytest.raises(StorageFullError):  # type: ignore[attr-defined]  # a context manager
        write_shards(runs, schema_from_arrow(batch.schema), tmp_path, Sharding(num_shards=4))
