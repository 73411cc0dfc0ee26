import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from shoal.base import ConflictError, InputError, SchemaError, SourceError, StorageFullError
from shoal.data import Dataset, IdxSource, ingest
from shoal.data import open as open_dataset
from shoal.data.ingestion.sharding import Sharding
from shoal.data.ingestion.writing import write_content
from shoal.data.sources.opening import open_source

Rows = dict[str, np.ndarray]


def files(folder: Path) -> dict[str, bytes]:
    """Every file below a folder by name; locks and empty folders do not count."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_same_content_again_changes_nothing(dataset: Dataset, make_rows: Callable[..., Rows]) -> None:
    before = files(dataset.path)

    again = ingest(make_rows(500), dataset.path, num_shards=4)

    assert again == dataset
    assert files(dataset.path) == before


def test_the_order_of_arrival_does_not_count(dataset: Dataset, make_rows: Callable[..., Rows], tmp_path: Path) -> None:
    order = np.random.default_rng(1).permutation(500)

    other = ingest({name: values[order] for name, values in make_rows(500).items()}, tmp_path / "b", num_shards=4)

    assert other.digest == dataset.digest
    assert other.manifest.profile == dataset.manifest.profile


@pytest.mark.parametrize("run_bytes", [1, 10_000])
def test_the_memory_for_sorting_does_not_count(
    dataset: Dataset, make_rows: Callable[..., Rows], tmp_path: Path, run_bytes: int
) -> None:
    sharding = Sharding(num_shards=4, run_bytes=run_bytes)
    rows = make_rows(500)
    parts = [{name: values[start : start + 90] for name, values in rows.items()} for start in range(0, 500, 90)]
    batches = [batch for part in parts for batch in open_source(part).record_batches()]

    made = write_content(tmp_path / "b", open_source(batches), key=None, sharding=sharding)

    assert made.digest == dataset.digest


def test_other_content_makes_a_new_version_and_keeps_the_old(dataset: Dataset, make_rows: Callable[..., Rows]) -> None:
    newer = ingest(make_rows(30, seed=9), dataset.path)

    assert (newer.version, newer.num_rows, newer.manifest.parent) == (2, 30, dataset.digest)
    assert open_dataset(f"{dataset.path}@1").num_rows == 500


def test_earlier_content_again_returns_its_version(dataset: Dataset, make_rows: Callable[..., Rows]) -> None:
    dataset.append(make_rows(30, seed=9))

    assert ingest(make_rows(500), dataset.path, num_shards=4) == dataset


def test_shards_follow_from_the_bytes(make_rows: Callable[..., Rows], tmp_path: Path) -> None:
    dataset = ingest(make_rows(500), tmp_path / "b", target_shard_bytes=5_000)

    assert 4 < len(dataset.shards) < 12
    assert sum(shard.num_rows for shard in dataset.shards) == 500


def test_more_shards_than_rows_leave_no_empty_files(make_rows: Callable[..., Rows], tmp_path: Path) -> None:
    dataset = ingest(make_rows(5), tmp_path / "b", num_shards=64)

    assert len(dataset.shards) <= 5
    assert dataset.num_rows == 5


def test_rows_with_one_key_share_a_shard(tmp_path: Path) -> None:
    users = np.arange(400) % 7

    dataset = ingest({"user": users, "x": np.arange(400)}, tmp_path / "b", key="user", num_shards=5)

    homes = [{row["user"] for batch in part.batches() for row in batch.to_pylist()} for part in dataset.split(0.5, 0.5)]
    assert homes[0].isdisjoint(homes[1])
    assert homes[0] | homes[1] == set(range(7))


def test_nulls_are_found_wherever_they_come(tmp_path: Path) -> None:
    batches = [pa.RecordBatch.from_pydict({"x": pa.array([1, 2]), "y": pa.array([None, 1])}) for _ in range(2)]

    dataset = ingest(batches, tmp_path / "b")

    assert [column.nullable for column in dataset.schema.columns] == [False, True]
    assert dataset.arrays()["y_mask"].sum() == 2


def test_progress_counts_to_the_last_row(make_rows: Callable[..., Rows], tmp_path: Path) -> None:
    seen: list[int] = []

    ingest(make_rows(9_000), tmp_path / "b", progress=seen.append)

    assert seen == [8_192, 9_000]


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"x": np.zeros(0)}, SourceError, "no rows"),
        (iter([]), SourceError, "no rows"),
        ({"_hash": np.zeros(3)}, SchemaError, "_hash is shoal's own"),
        (pa.table({"x": [[["a"]], [["b"]]]}), SchemaError, "column 'x'"),
    ],
)
def test_refused_rows_leave_nothing(tmp_path: Path, given: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        ingest(given, tmp_path / "b")

    assert list(tmp_path.iterdir()) == []


def test_columns_that_change_on_the_way_are_named(tmp_path: Path) -> None:
    batches = [pa.RecordBatch.from_pydict({"x": [1]}), pa.RecordBatch.from_pydict({"x": ["one"]})]

    with pytest.raises(SourceError, match="found x: string where x: int64"):
        ingest(batches, tmp_path / "b")


def test_an_unknown_key_is_named(make_rows: Callable[..., Rows], tmp_path: Path) -> None:
    with pytest.raises(SchemaError, match="key 'usr'"):
        ingest(make_rows(5), tmp_path / "b", key="usr")


@pytest.mark.parametrize("options", [{"num_shards": 0}, {"target_shard_bytes": 0}])
def test_impossible_sizes_are_refused(make_rows: Callable[..., Rows], tmp_path: Path, options: dict[str, int]) -> None:
    with pytest.raises(InputError, match="must be >= 1"):
        ingest(make_rows(5), tmp_path / "b", **options)


@pytest.mark.parametrize("limit_bytes", [1_000, 6_000, 12_000])
def test_a_full_disk_leaves_the_dataset_as_it_was(
    dataset: Dataset,
    make_rows: Callable[..., Rows],
    full_disk: Callable[[int], AbstractContextManager[None]],
    limit_bytes: int,
) -> None:
    before = files(dataset.path)

    with full_disk(limit_bytes), pytest.raises(StorageFullError) as caught:
        dataset.append(make_rows(3_000, seed=5), num_shards=2)

    assert str(dataset.path) in caught.value.message
    assert files(dataset.path) == before
    assert open_dataset(dataset.path) == dataset


def test_a_full_disk_at_the_first_ingest_leaves_no_folder(
    make_rows: Callable[..., Rows], tmp_path: Path, full_disk: Callable[[int], AbstractContextManager[None]]
) -> None:
    with full_disk(1_000), pytest.raises(StorageFullError):
        ingest(make_rows(3_000), tmp_path / "new")

    assert list(tmp_path.iterdir()) == []


def test_a_source_that_breaks_half_way_leaves_the_dataset_as_it_was(
    dataset: Dataset, make_rows: Callable[..., Rows]
) -> None:
    def breaking() -> Iterator[pa.RecordBatch]:
        yield from open_source(make_rows(100, seed=3)).record_batches()
        raise SourceError("the line went dead", next_step="try again")

    before = files(dataset.path)

    with pytest.raises(SourceError, match="went dead"):
        dataset.append(breaking())

    assert files(dataset.path) == before


def test_a_damaged_source_file_leaves_nothing(idx_pair: Callable[..., tuple[Path, Path]], tmp_path: Path) -> None:
    images, labels = idx_pair(num_images=5_000)
    images.write_bytes(images.read_bytes()[:-100])

    with pytest.raises(SourceError, match=str(images)):
        ingest(IdxSource(images, labels), tmp_path / "b")

    assert not (tmp_path / "b").exists()


def test_ingesting_again_replaces_a_damaged_shard(dataset: Dataset, make_rows: Callable[..., Rows]) -> None:
    path = dataset.shard_path(dataset.shards[2])
    path.write_bytes(path.read_bytes()[:-8])

    ingest(make_rows(500), dataset.path, num_shards=4)

    dataset.verify()


KILLED = """
import os, signal, sys
import numpy as np
import shoal.data.ingestion.writing as ingestion
import shoal.data.ingestion.sharding as sharding
from shoal.data.ingestion.writing import write_content
from shoal.data.ingestion.sharding import Sharding
from shoal.data.sources.opening import open_source

folder, moment = sys.argv[1:]
rows = {"x": np.arange(2_000), "y": np.arange(2_000) / 3}

def die(*args, **kwargs):
    os.kill(os.getpid(), signal.SIGKILL)

def progress(num_rows):
    if moment == "reading" and num_rows > 1_000:
        die()

if moment == "writing":
    real, calls = sharding.write_shard, []
    def write_shard(batch, path):
        calls.append(path)
        made = real(batch, path)
        return die() if len(calls) == 2 else made
    sharding.write_shard = write_shard
if moment == "publishing":
    ingestion.publish_ingest = die
parts = [{name: values[at : at + 500] for name, values in rows.items()} for at in range(0, 2_000, 500)]
batches = [batch for part in parts for batch in open_source(part).record_batches()]
write_content(
    ingestion.Path(folder), open_source(batches), key=None, progress=progress,
    sharding=Sharding(num_shards=4, run_bytes=5_000),
)
"""


@pytest.mark.slow  # a process each
@pytest.mark.parametrize("moment", ["reading", "writing", "publishing"])
def test_a_kill_leaves_no_version_and_the_next_run_no_trace_of_it(tmp_path: Path, moment: str) -> None:
    rows = {"x": np.arange(2_000), "y": np.arange(2_000) / 3}
    clean = ingest(rows, tmp_path / "clean", num_shards=4)

    killed = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "b"), moment], check=False)
    with pytest.raises(LookupError):
        open_dataset(tmp_path / "b")
    left = files(tmp_path / "b")
    again = ingest(rows, tmp_path / "b", num_shards=4)

    assert killed.returncode == -signal.SIGKILL
    assert left
    assert again.digest == clean.digest
    assert sorted(files(tmp_path / "b")) == sorted(files(tmp_path / "clean"))


def test_appends_at_the_same_time_all_arrive(dataset: Dataset, make_rows: Callable[..., Rows]) -> None:
    start = threading.Barrier(6)

    def append(seed: int) -> None:
        start.wait()
        dataset.append(make_rows(20, seed=seed))

    threads = [threading.Thread(target=append, args=(seed,)) for seed in range(1, 7)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    newest = open_dataset(dataset.path)
    users = set(newest.arrays(["user"])["user"])
    assert (newest.version, newest.num_rows) == (7, 620)
    assert {f"user-{seed}-{index}" for seed in range(1, 7) for index in range(20)} < users
    assert newest.profile.num_rows == 620


@pytest.mark.slow
def test_appends_of_several_processes_all_arrive(dataset: Dataset) -> None:
    script = (
        "import sys, numpy as np; from shoal.data import open as open_dataset; base = int(sys.argv[2]);"
        "rows = {'image': np.zeros((9, 4, 3), np.uint8), 'label': np.arange(9) + base,"
        " 'weight': np.zeros(9, np.float32), 'user': np.array(['u'] * 9, dtype=object)};"
        "open_dataset(sys.argv[1]).append(rows)"
    )
    children = [
        subprocess.Popen([sys.executable, "-c", script, str(dataset.path), str(100 * number)], env=os.environ)
        for number in range(1, 3)
    ]

    assert [child.wait() for child in children] == [0, 0]
    assert open_dataset(dataset.path).num_rows == 518


def test_an_append_that_lost_every_race_leaves_the_dataset_as_it_was(
    dataset: Dataset, make_rows: Callable[..., Rows], monkeypatch: pytest.MonkeyPatch
) -> None:
    def taken(path: Path, data: bytes) -> None:
        raise ConflictError("taken", next_step="none")

    monkeypatch.setattr("shoal.data.versions.manifest.create_exclusive", taken)
    monkeypatch.setattr("shoal.data.versions.manifest._MAX_ATTEMPTS", 3)

    with pytest.raises(ConflictError):
        dataset.append(make_rows(20, seed=1))

    assert open_dataset(dataset.path) == dataset


@pytest.mark.parametrize("late", ["1.5", "1e300", "none"])
def test_decimals_are_read_as_the_float32_that_is_declared(tmp_path: Path, late: str) -> None:
    lines = ["id,x", *(f"{index},{index / 10}" for index in range(50)), f"50,{late}"]
    (tmp_path / "a.csv").write_text("\n".join(lines))

    rows = ingest(tmp_path / "a.csv", tmp_path / "rows", schema={"id": "int64", "x": "float32"}, on_bad="quarantine")

    found = rows.arrays()
    tenths = (np.arange(50) / 10).astype(np.float32)
    assert (found["x"][np.argsort(found["id"])][:50] == tenths).all()
    assert rows.num_rows == (50 if late == "none" else 51)
