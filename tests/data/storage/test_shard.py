import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from shoal.base import CorruptError, ShardMissingError
from shoal.data import Dataset, native
from shoal.data.schema import HASH_SPAN, schema_from_arrow
from shoal.data.storage import chunks
from shoal.data.storage.shard import FULL_RANGE, Shard, ShardFile, check_shard, trust_shard, write_shard


@pytest.fixture
def shard(dataset: Dataset) -> Shard:
    return dataset.shards[1]


@pytest.fixture
def path(dataset: Dataset, shard: Shard) -> Path:
    return dataset.shard_path(shard)


@pytest.mark.parametrize("difference", [-1, 1, 1_000_000])
def test_a_manifest_that_counts_other_rows_is_not_believed(
    dataset: Dataset, path: Path, shard: Shard, difference: int
) -> None:
    wrong = replace(shard, num_rows=shard.num_rows + difference)

    with pytest.raises(CorruptError, match=f"has {shard.num_rows} rows in 1 batches, its manifest says"):
        ShardFile(path, wrong, dataset.schema).open_batches  # noqa: B018  # opening is what fails


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
    real = chunks.xxh3_64_intdigest
    monkeypatch.setattr(chunks, "xxh3_64_intdigest", lambda data: reads.append(len(data)) or real(data))

    check_shard(path, shard, again=False)
    unchanged = len(reads)
    path.touch()
    check_shard(path, shard, again=False)

    assert unchanged == 0
    assert sum(reads) == shard.size_bytes


def test_a_file_that_was_summed_as_it_came_is_trusted_under_its_new_name(
    path: Path, shard: Shard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched, other = tmp_path / "fetched", tmp_path / "other"
    for each in (fetched, other):
        each.write_bytes(path.read_bytes())
    reads = []
    real = chunks.xxh3_64_intdigest
    monkeypatch.setattr(chunks, "xxh3_64_intdigest", lambda data: reads.append(len(data)) or real(data))

    checked = fetched.stat()
    renamed = fetched.rename(tmp_path / "entry")
    trust_shard(renamed, shard, checked)
    check_shard(renamed, shard, again=False)
    assert reads == []

    # Neither another file under the name nor the same one after a change.
    trust_shard(other, shard, checked)
    check_shard(other, shard, again=False)
    assert sum(reads) == shard.size_bytes
    flipped = bytearray(path.read_bytes())
    flipped[len(flipped) // 2] ^= 1
    renamed.write_bytes(flipped)
    trust_shard(renamed, shard, checked)
    with pytest.raises(CorruptError, match="entry is damaged"):
        check_shard(renamed, shard, again=False)
    trust_shard(tmp_path / "gone", shard, checked)


def test_only_the_chunks_of_what_is_read_are_checked(tmp_path: Path, to_batch: Callable[..., pa.RecordBatch]) -> None:
    rows = {"wide": np.zeros((300, 1024), np.uint8), "label": np.arange(300), "_hash": np.arange(300, dtype=np.uint64)}
    path = tmp_path / "shard"
    shard = write_shard(to_batch(rows), path)
    schema = schema_from_arrow(pa.schema([("wide", pa.fixed_shape_tensor(pa.uint8(), (1024,))), ("label", pa.int64())]))
    data = bytearray(path.read_bytes())
    data[200 << 10] ^= 1
    path.write_bytes(data)
    file = ShardFile(path, shard, schema)

    labels = file.column("label").values

    assert labels.tolist() == list(range(300))
    with pytest.raises(CorruptError, match=f"between bytes {192 << 10} and {256 << 10}"):
        file.column("wide")


@pytest.mark.parametrize("place", [9, 100, -20, -4])
def test_a_flipped_bit_around_the_rows_is_seen_when_the_file_is_opened(
    dataset: Dataset, path: Path, shard: Shard, place: int
) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)

    with pytest.raises(CorruptError, match="between bytes 0 and"):
        _ = ShardFile(path, shard, dataset.schema).open_batches


def test_a_file_that_lies_elsewhere_is_fetched_when_it_is_read(dataset: Dataset, path: Path, shard: Shard) -> None:
    fetched = []
    file = ShardFile(lambda: fetched.append(shard) or path, shard, dataset.schema)
    before = len(fetched)

    file.column("label")
    file.column("weight")

    assert (before, len(fetched)) == (0, 1)


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


@pytest.mark.parametrize("loops", ["native", "pure"])
def test_a_file_that_was_cut_is_refused_before_its_pages_are_read(
    dataset: Dataset, path: Path, shard: Shard, loops: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if loops == "pure":
        monkeypatch.setattr(native, "native", None)
    # Pages behind the end of a file would end the process when they are read.
    os.truncate(path, shard.size_bytes - 1)

    with pytest.raises(CorruptError, match=f"it has {shard.size_bytes - 1} bytes, expected {shard.size_bytes}"):
        _ = ShardFile(path, shard, dataset.schema).open_batches


@pytest.mark.slow
@pytest.mark.parametrize("loops", ["native", "pure"])
def test_two_thousand_shards_are_open_at_once_with_few_descriptors(tmp_path: Path, loops: str) -> None:
    program = """
import resource, sys
if sys.argv[2] == "pure":
    sys.modules["shoal.data._native"] = None
import numpy as np
import shoal.data
numbers = np.arange(12_000)
dataset = shoal.data.ingest({"n": numbers}, sys.argv[1], num_shards=2_000)
resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
loader = dataset.loader(batch_size=1_000, shuffle=True, format="numpy")
found = np.concatenate([batch["n"] for batch in loader])
print(len(dataset.shards), np.array_equal(np.sort(found), numbers))
"""
    command = [sys.executable, "-c", program, str(tmp_path / "many"), loops]

    done = subprocess.run(command, capture_output=True, text=True, check=True)

    num_shards, is_whole = done.stdout.split()
    assert int(num_shards) > 1_900
    assert is_whole == "True"
