import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shoal.base import ConflictError, InputError, SchemaError, StorageFullError, UnsupportedError
from shoal.data import Dataset, ingest
from shoal.data import open as open_dataset

Rows = dict[str, np.ndarray]


def rows_of(dataset: Dataset) -> Counter:
    """The multiset of rows."""
    found: Counter = Counter()
    for batch in dataset.batches():
        found.update(repr(row) for row in batch.to_pylist())
    return found


def sides(dataset: Dataset) -> list[Counter]:
    return [rows_of(part) for part in dataset.split(0.3, 0.5, 0.2)]


@pytest.mark.parametrize("num_shards", [1, 3, 7, 40])
def test_gives_what_ingest_into_so_many_shards_gives(
    dataset: Dataset, make_rows: Callable[..., Rows], tmp_path: Path, num_shards: int
) -> None:
    expected = ingest(make_rows(500), tmp_path / "b", num_shards=num_shards)

    made = dataset.reshard(num_shards=num_shards)

    assert made.digest == expected.digest
    assert (made.version, made.manifest.change, made.manifest.parent) == (2, "reshard", dataset.digest)
    assert open_dataset(f"{dataset.path}@1").shards == dataset.shards


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    sizes=st.lists(st.integers(1, 120), min_size=1, max_size=4),
    num_shards=st.integers(1, 12),
    key=st.sampled_from([None, "user"]),
    values=st.integers(1, 40),
)
def test_rows_and_splits_stay_whatever_the_shards(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], num_shards: int, key: str | None, values: int
) -> None:
    folder = tmp_path_factory.mktemp("reshard") / "b"
    made = None
    for number, size in enumerate(sizes):
        rng = np.random.default_rng(number)
        rows = {"user": rng.integers(0, values, size), "text": np.array(["x" * n for n in range(size)], dtype=object)}
        made = ingest(rows, folder, key=key, num_shards=3) if made is None else made.append(rows, num_shards=2)
    assert made is not None

    resharded = made.reshard(num_shards=num_shards)

    assert rows_of(resharded) == rows_of(made)
    assert sides(resharded) == sides(made)
    assert len(resharded.shards) <= num_shards
    resharded.verify()


def test_a_new_key_places_the_rows_by_it(dataset: Dataset) -> None:
    made = dataset.reshard(num_shards=5, key="label")

    assert (made.key, rows_of(made)) == ("label", rows_of(dataset))
    labels = [{row["label"] for batch in part.batches() for row in batch.to_pylist()} for part in made.split(0.5, 0.5)]
    assert labels[0].isdisjoint(labels[1])
    assert made.digest == ingest(dataset, dataset.path.parent / "c", key="label", num_shards=5).digest


def test_sealed_segments_become_shards_with_hashes(tmp_path: Path) -> None:
    paths = []
    for number in range(2):
        paths.append(tmp_path / f"{number}.arrow")
        batch = pa.RecordBatch.from_pydict({"x": np.arange(30) + 30 * number})
        with pa.OSFile(str(paths[-1]), "wb") as sink, pa.ipc.new_file(sink, batch.schema) as writer:
            writer.write_batch(batch)
    adopted = Dataset.create_from_segments(tmp_path / "log", paths)

    made = adopted.reshard(num_shards=3)

    assert rows_of(made) == rows_of(adopted)
    assert sum(part.num_rows for part in made.split(0.5, 0.5)) == 60


def test_changed_columns_are_written_out(dataset: Dataset) -> None:
    evolved = dataset.evolve(
        rename={"label": "class"}, add={"city": "string"}, drop=["image"], widen={"weight": "float64"}
    )

    made = evolved.reshard(num_shards=2)

    assert rows_of(made) == rows_of(evolved)
    assert sides(made) == sides(evolved)
    with pa.memory_map(str(made.shard_path(made.shards[0]))) as mapped:
        assert pa.ipc.open_file(mapped).schema.names == ["class", "weight", "user", "city", "_hash"]


def test_a_hot_key_is_cut_and_stays_together_in_splits(tmp_path: Path) -> None:
    users = np.concatenate([np.zeros(4_000, np.int64), np.arange(1, 1_001)])
    made = ingest({"user": users, "x": np.arange(5_000)}, tmp_path / "b", key="user", num_shards=1)

    cut = made.reshard(num_shards=10)

    assert cut.balance.num_cut >= 4
    assert cut.balance.rows_ratio < 3
    assert rows_of(cut) == rows_of(made)
    homes = [{row["user"] for batch in part.batches() for row in batch.to_pylist()} for part in cut.split(0.5, 0.5)]
    assert homes[0].isdisjoint(homes[1])


def test_the_same_shards_again_change_nothing(dataset: Dataset) -> None:
    assert dataset.reshard(num_shards=4).version == 1


def test_shards_follow_from_the_bytes(dataset: Dataset) -> None:
    assert 10 < len(dataset.reshard(target_shard_bytes=2_000).shards) < 60


def test_rows_that_came_meanwhile_stay(dataset: Dataset, make_rows: Callable[..., Rows]) -> None:
    grown = dataset.append(make_rows(30, seed=2), num_shards=1)

    made = dataset.reshard(num_shards=2)

    assert (made.version, len(made.shards)) == (3, 3)
    assert rows_of(made) == rows_of(grown)


def test_changes_to_the_same_rows_meanwhile_are_told(dataset: Dataset, make_rows: Callable[..., Rows]) -> None:
    dataset.reshard(num_shards=2)

    with pytest.raises(ConflictError, match="a later version no longer has"):
        dataset.reshard(num_shards=3)


def test_rows_placed_by_another_key_meanwhile_are_told(dataset: Dataset, make_rows: Callable[..., Rows]) -> None:
    dataset.append(make_rows(30, seed=2), num_shards=1)

    with pytest.raises(ConflictError, match="1 new shards with rows placed by 'content'"):
        dataset.reshard(num_shards=2, key="label")


def test_an_append_to_rows_that_were_placed_anew_is_told(dataset: Dataset, make_rows: Callable[..., Rows]) -> None:
    dataset.reshard(num_shards=2, key="label")

    with pytest.raises(ConflictError, match="placed by 'label' by now"):
        dataset.append(make_rows(30, seed=2))


def test_what_cannot_be_done_is_named(dataset: Dataset) -> None:
    with pytest.raises(SchemaError, match="by key 'nothing'"):
        dataset.reshard(key="nothing")
    with pytest.raises(InputError, match="num_shards=0 must be >= 1"):
        dataset.reshard(num_shards=0)
    with pytest.raises(UnsupportedError, match="cannot reshard a part"):
        dataset.split(0.5, 0.5)[0].reshard(num_shards=2)


def test_a_full_disk_leaves_the_dataset_as_it_was(
    dataset: Dataset, full_disk: Callable[[int], AbstractContextManager[None]]
) -> None:
    with full_disk(3_000), pytest.raises(StorageFullError):
        dataset.reshard(num_shards=1)

    assert open_dataset(dataset.path).version == 1
    assert {path.name for path in (dataset.path / "shards").iterdir()} == {s.file_name for s in dataset.shards}


def test_appends_during_a_reshard_all_arrive(dataset: Dataset, make_rows: Callable[..., Rows]) -> None:
    start = threading.Barrier(3)

    def run(work: Callable[[], object]) -> None:
        start.wait()
        work()

    jobs = [
        lambda: dataset.reshard(num_shards=8),
        lambda: dataset.append(make_rows(20, seed=1)),
        lambda: dataset.append(make_rows(20, seed=2)),
    ]
    threads = [threading.Thread(target=run, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    newest = open_dataset(dataset.path)
    assert (newest.version, newest.num_rows) == (4, 540)
    assert sum(rows_of(newest).values()) == 540


PEAK = """
import sys, threading
import numpy as np, pyarrow as pa, shoal.data

def anonymous():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("RssAnon")) >> 10

def batches(count):
    for number in range(count):
        rng = np.random.default_rng(number)
        image = rng.integers(0, 256, (1_000, 784), dtype=np.uint8)
        columns = {"id": np.arange(1_000) + 1_000 * number, "image": pa.FixedShapeTensorArray.from_numpy_ndarray(image)}
        yield pa.RecordBatch.from_pydict(columns)

count = int(sys.argv[2])
dataset = shoal.data.ingest(batches(count), sys.argv[1], num_shards=count // 10)
before, peak, is_done = anonymous(), 0, threading.Event()

def watch():
    global peak
    while not is_done.wait(0.002):
        peak = max(peak, anonymous())

watcher = threading.Thread(target=watch)
watcher.start()
dataset.reshard(num_shards=count // 10 + 1)
is_done.set()
watcher.join()
print(peak - before)
"""


@pytest.mark.slow  # 30 and 300 MB
@pytest.mark.skipif(sys.platform != "linux", reason="counts anonymous memory by /proc")
def test_memory_does_not_grow_with_the_dataset(tmp_path: Path) -> None:
    growth = [
        int(subprocess.check_output([sys.executable, "-c", PEAK, str(tmp_path / str(count)), str(count)]))
        for count in (40, 400)
    ]

    # Mapped pages are the system's to keep or drop; a shard has 8 MB, and is held a few times while it is put in order.
    assert max(growth) < 80
