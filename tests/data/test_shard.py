import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from shoal.base import CorruptError, ShardMissingError
from shoal.data import Dataset
from shoal.data.hashing import HASH_SPAN
from shoal.data.shard import FULL_RANGE, Shard, ShardFile, check_shard


@pytest.fixture
def shard(dataset: Dataset) -> Shard:
    return dataset.shards[1]


@pytest.fixture
def path(dataset: Dataset, shard: Shard) -> Path:
    return dataset.shard_path(shard)


def test_a_file_bears_its_digest_as_name_and_plain_arrow_reads_it(path: Path, shard: Shard) -> None:
    table = pa.ipc.open_file(str(path)).read_all()

    assert shard.digest == f"b3:{path.stem}"
    assert table.num_rows == shard.num_rows
    assert table.schema.field("image").type == pa.fixed_shape_tensor(pa.uint8(), (4, 3))


def test_rows_are_sorted_by_hash_inside_their_range(path: Path, shard: Shard) -> None:
    hashes = pa.ipc.open_file(str(path)).read_all().column("_hash").to_numpy()

    assert (np.diff(hashes.astype(object)) >= 0).all()
    assert f"{hashes[0]:016x}" == shard.first_hash
    assert HASH_SPAN // 4 <= hashes[0] <= hashes[-1] < HASH_SPAN // 2


def test_one_flipped_bit_is_seen_at_the_first_touch_and_the_shard_named(
    dataset: Dataset, path: Path, shard: Shard
) -> None:
    before = path.stat()
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))

    with pytest.raises(CorruptError, match=shard.file_name) as caught:
        ShardFile(path, shard, dataset.schema).column("label")

    assert "ingest the same source again (in a flow: run it with force=True)" in caught.value.next_step


@pytest.mark.parametrize("num_bytes", [0, 100, -1])
def test_a_cut_file_is_refused(path: Path, shard: Shard, num_bytes: int) -> None:
    path.write_bytes(path.read_bytes()[:num_bytes])

    with pytest.raises(CorruptError, match=f"expected {shard.size_bytes}"):
        check_shard(path, shard)


def test_a_longer_file_is_refused(path: Path, shard: Shard) -> None:
    with path.open("ab") as file:
        file.write(b"\0")

    with pytest.raises(CorruptError, match=f"expected {shard.size_bytes}"):
        check_shard(path, shard)


def test_a_missing_file_is_named(dataset: Dataset, path: Path, shard: Shard) -> None:
    path.unlink()

    with pytest.raises(ShardMissingError, match=shard.file_name):
        ShardFile(path, shard, dataset.schema).column("label")


def test_what_was_checked_is_not_read_again_until_it_changes(
    path: Path, shard: Shard, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_shard(path, shard)
    reads = []
    monkeypatch.setattr("shoal.data.shard.digest_chunks", lambda path: reads.append(path) or list(shard.chunks))

    check_shard(path, shard, again=False)
    unchanged = len(reads)
    path.touch()
    check_shard(path, shard, again=False)

    assert (unchanged, len(reads)) == (0, 1)


def test_a_shard_outside_or_inside_a_range_is_judged_without_reading(shard: Shard, tmp_path: Path) -> None:
    unread = ShardFile(tmp_path / "absent", shard, None)  # type: ignore[arg-type]  # never asked for

    assert unread.rows_in(FULL_RANGE) == (0, shard.num_rows)
    assert unread.rows_in((HASH_SPAN // 4, HASH_SPAN // 2)) == (0, shard.num_rows)
    assert unread.rows_in((HASH_SPAN // 2, HASH_SPAN)) == (0, 0)


def test_a_border_inside_cuts_where_the_hashes_say(dataset: Dataset, path: Path, shard: Shard) -> None:
    file = ShardFile(path, shard, dataset.schema)
    hashes = pa.ipc.open_file(str(path)).read_all().column("_hash").to_numpy()

    at = int(hashes[10])

    assert file.rows_in((0, at)) == (0, 10)
    assert file.rows_in((at, HASH_SPAN)) == (10, shard.num_rows)
