import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from shoal.base import CorruptError, InputError, NotFoundError
from shoal.data import Dataset, ingest
from shoal.data import open as open_dataset
from shoal.data.versions.collection import collect_garbage
from shoal.data.versions.manifest import base_of, manifest_path, version_numbers
from shoal.data.versions.staging import place_shard, work_folder

Rows = dict[str, np.ndarray]


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def grown(dataset: Dataset, make_rows: Callable[..., Rows]) -> Dataset:
    """Six versions: an ingest, three appends, a reshard, an append."""
    made = dataset
    for seed in (1, 2, 3):
        made = made.append(make_rows(20, seed=seed), num_shards=1)
    return made.reshard(num_shards=3).append(make_rows(20, seed=4), num_shards=1)


def test_a_dataset_without_garbage_loses_nothing(grown: Dataset) -> None:
    before = files(grown.path)

    found = collect_garbage(grown.path, delete=True)

    assert (found.files, found.versions, found.size_bytes) == ((), (), 0)
    assert files(grown.path) == before


def test_the_plan_changes_nothing_and_the_deed_does_what_it_said(grown: Dataset) -> None:
    before = files(grown.path)

    plan = collect_garbage(grown.path, keep_versions=2)

    assert files(grown.path) == before
    assert (plan.versions, plan.versions_kept) == ((1, 2, 3, 4), (5, 6))
    assert collect_garbage(grown.path, keep_versions=2, delete=True) == plan
    assert files(grown.path) == before - set(plan.files)
    assert plan.size_bytes > 0


@pytest.mark.parametrize("keep", [[2], [1, 3], [4], [3, 5]])
def test_kept_versions_stay_readable(grown: Dataset, keep: list[int]) -> None:
    expected = {number: open_dataset(grown.path, number) for number in [*keep, 6]}

    collect_garbage(grown.path, keep=keep, delete=True)

    assert version_numbers(grown.path) == [*keep, 6]
    for number, before in expected.items():
        after = open_dataset(grown.path, number)
        assert after == before
        after.verify()
        assert sum(batch.num_rows for batch in after.batches()) == before.num_rows


def test_only_versions_whose_base_goes_are_written_anew(grown: Dataset) -> None:
    assert base_of(grown.path, 6) == 5

    collect_garbage(grown.path, keep=[5], delete=True)
    assert base_of(grown.path, 6) == 5

    collect_garbage(grown.path, keep_versions=1, delete=True)
    assert base_of(grown.path, 6) is None


def test_appends_go_on_after_old_versions_are_gone(grown: Dataset, make_rows: Callable[..., Rows]) -> None:
    collect_garbage(grown.path, keep_versions=1, delete=True)

    assert open_dataset(grown.path).append(make_rows(5, seed=9)).version == 7


def test_what_failures_left_is_collected(dataset: Dataset) -> None:
    expected = files(dataset.path)
    for name in ("shards/stray.arrow", "profiles/stray.arrow", "versions/.000002.json.a1.tmp", "profiles/.x.b2.tmp"):
        (dataset.path / name).write_bytes(b"x" * 10)
    (dataset.path / "incoming" / "dead").mkdir(parents=True)
    (dataset.path / "incoming" / "dead" / "run-0.arrow").touch()
    (dataset.path / "incoming" / "dead.lock").touch()

    found = collect_garbage(dataset.path, delete=True)

    assert (len(found.files), found.size_bytes) == (4, 40)
    assert files(dataset.path) == expected


def test_files_of_the_user_are_not_garbage(dataset: Dataset) -> None:
    (dataset.path / "notes.txt").write_text("mine")
    (dataset.path / "versions" / "notes.txt").write_text("mine")

    assert collect_garbage(dataset.path, delete=True).files == ()


def test_what_a_working_ingest_has_placed_stays(dataset: Dataset, tmp_path: Path) -> None:
    shard = dataset.shards[0]
    with work_folder(dataset.path) as work:
        made = work / shard.file_name
        made.write_bytes(dataset.shard_path(shard).read_bytes())
        place_shard(made, dataset.path, shard)
        ingest({"x": np.arange(3)}, dataset.path)

        found = collect_garbage(dataset.path, keep_versions=1, delete=True)

        assert dataset.shard_path(shard).exists()
        assert len(found.files) == 5  # version 1, its profile and its other three shards
    assert collect_garbage(dataset.path, keep_versions=1).files == (f"shards/{shard.file_name}",)


def test_a_damaged_version_stops_the_collection(grown: Dataset) -> None:
    manifest_path(grown.path, 3).write_text("{}")
    before = files(grown.path)

    with pytest.raises(CorruptError, match=r"000003\.json"):
        collect_garbage(grown.path, delete=True)

    assert files(grown.path) == before


def test_impossible_wishes_are_named(dataset: Dataset, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="cannot keep clicks@7"):
        collect_garbage(dataset.path, keep=[7])
    with pytest.raises(InputError, match="keep_versions=0"):
        collect_garbage(dataset.path, keep_versions=0)
    with pytest.raises(NotFoundError, match="no dataset"):
        collect_garbage(tmp_path / "nothing")


def test_appends_and_collections_at_once_lose_nothing(dataset: Dataset, make_rows: Callable[..., Rows]) -> None:
    start, is_done, errors = threading.Barrier(4), threading.Event(), []

    def append(first: int) -> None:
        start.wait()
        for seed in range(first, first + 5):
            try:
                dataset.append(make_rows(20, seed=seed), num_shards=2)
            except BaseException as error:
                errors.append(error)

    def collect() -> None:
        start.wait()
        while not is_done.is_set():
            try:
                collect_garbage(dataset.path, keep_versions=1, delete=True)
            except BaseException as error:
                errors.append(error)
                return

    collector = threading.Thread(target=collect)
    collector.start()
    writers = [threading.Thread(target=append, args=(first,)) for first in (10, 20, 30)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    is_done.set()
    collector.join()

    newest = open_dataset(dataset.path)
    newest.verify()
    assert errors == []
    assert (newest.version, newest.num_rows) == (16, 800)
    assert newest.profile.num_rows == 800


COLLECTING = """
import sys
from shoal.data.versions.collection import collect_garbage
print("ready", flush=True)
while True:
    collect_garbage(sys.argv[1], keep_versions=2, delete=True)
"""


@pytest.mark.slow  # processes
def test_a_killed_collection_leaves_every_kept_version_whole(dataset: Dataset, make_rows: Callable[..., Rows]) -> None:
    newest = dataset
    for seed in range(1, 6):
        with subprocess.Popen(
            [sys.executable, "-c", COLLECTING, str(dataset.path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as collector:
            assert collector.stdout is not None
            collector.stdout.readline()
            for part in range(3):
                newest = newest.append(make_rows(20, seed=10 * seed + part), num_shards=2)
            os.kill(collector.pid, signal.SIGKILL)

        opened = open_dataset(dataset.path)
        opened.verify()
        assert opened.num_rows == 500 + 60 * seed

    collect_garbage(dataset.path, keep_versions=1, delete=True)
    left = files(dataset.path)
    assert len([name for name in left if name.startswith("shards/")]) == len(newest.shards)
    assert len([name for name in left if name.startswith("profiles/")]) == 1


def test_half_a_subset_that_a_kill_left_is_swept_and_one_at_work_is_not(grown: Dataset) -> None:
    assert grown.sample(50).num_rows == 50
    folder = grown.path / "subsets"
    kept = files(folder)
    relic, at_work = folder / ".old.bits.1a2b3c4d.tmp", folder / ".new.bits.1a2b3c4d.tmp"
    for path in (relic, at_work):
        path.write_bytes(b"half")
    os.utime(relic, (0, 0))

    found = collect_garbage(grown.path, delete=True)

    assert found.files == ("subsets/.old.bits.1a2b3c4d.tmp",)
    assert files(folder) == {*kept, at_work.name}
