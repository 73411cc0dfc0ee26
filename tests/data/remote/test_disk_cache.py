import multiprocessing
import os
import shutil
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from shoal.base import ConflictError, InputError, StorageFullError, digest_bytes
from shoal.data.remote.disk_cache import DiskCache


@pytest.fixture
def cache(tmp_path):
    return DiskCache(tmp_path / "cache", 1_000)


def writing(data, calls=None):
    def make(target: Path) -> None:
        if calls is not None:
            calls.append(1)
        target.write_bytes(data)

    return make


def names(cache):
    return sorted(path.name for path in (cache.folder / "entries").iterdir())


def fill(cache, *wanted, size=400):
    for name in wanted:
        cache.lease(name, writing(bytes(size)), size_bytes=size).close()


def test_an_entry_is_made_once(cache):
    calls: list[int] = []

    for _ in range(3):
        with cache.lease("a", writing(b"abc", calls)) as lease:
            assert lease.path.read_bytes() == b"abc"

    assert len(calls) == 1


def test_what_was_used_longest_ago_is_dropped_first(cache):
    fill(cache, "a", "b")
    fill(cache, "a")
    fill(cache, "c")

    assert names(cache) == ["a", "c"]
    assert cache.size_bytes <= cache.limit_bytes


def test_what_is_in_use_is_never_dropped(cache):
    with cache.lease("a", writing(bytes(400)), size_bytes=400):
        fill(cache, "b", "c", "d", "e")

        assert "a" in names(cache)

    fill(cache, "f", "g")
    assert "a" not in names(cache)


def test_an_entry_larger_than_the_cache_works_while_it_is_used(cache):
    with cache.lease("huge", writing(bytes(5_000)), size_bytes=5_000) as lease:
        assert lease.path.stat().st_size == 5_000

    fill(cache, "a")
    assert names(cache) == ["a"]


@pytest.mark.parametrize("digest", [digest_bytes(b"abc"), None], ids=["known digest", "digest of the first"])
def test_a_damaged_entry_is_made_again(cache, digest):
    calls: list[int] = []
    cache.lease("a", writing(b"abc", calls), digest=digest).close()
    (cache.folder / "entries" / "a").write_bytes(b"abd")

    with cache.lease("a", writing(b"abc", calls), digest=digest) as lease:
        assert lease.path.read_bytes() == b"abc"

    assert len(calls) == 2


def test_an_entry_that_was_only_touched_is_kept(cache):
    calls: list[int] = []
    cache.lease("a", writing(b"abc", calls)).close()
    os.utime(cache.folder / "entries" / "a", ns=(1, 1))

    cache.lease("a", writing(b"abc", calls)).close()

    assert len(calls) == 1


def test_a_file_is_moved_in_and_is_an_entry_like_others(cache, tmp_path):
    calls: list[int] = []
    (tmp_path / "mine").write_bytes(b"abc")

    cache.adopt("a", tmp_path / "mine", digest_bytes(b"abc"))

    with cache.lease("a", writing(b"abc", calls), digest=digest_bytes(b"abc")) as lease:
        assert lease.path.read_bytes() == b"abc"
    assert calls == []
    assert not (tmp_path / "mine").exists()


def test_a_full_cache_is_counted_once_for_many_entries(tmp_path, monkeypatch):
    cache = DiskCache(tmp_path / "cache", 100_000)
    fill(cache, *(f"old-{number}" for number in range(100)), size=1_000)
    counts: list[int] = []
    count = cache.make_room
    monkeypatch.setattr(cache, "make_room", lambda num_bytes: (counts.append(1), count(num_bytes)))

    fill(cache, *(f"new-{number}" for number in range(100)), size=50)

    assert len(counts) <= 30
    assert cache.size_bytes <= cache.limit_bytes


def test_find_returns_nothing_for_what_is_not_there(cache):
    assert cache.find("a") is None
    fill(cache, "a")
    lease = cache.find("a")
    assert lease is not None
    lease.close()


def test_threads_that_ask_at_once_make_it_once(cache):
    calls: list[int] = []
    barrier = threading.Barrier(8)

    def ask(_):
        barrier.wait()
        cache.lease("a", writing(b"abc", calls)).close()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(ask, range(8)))

    assert len(calls) == 1


def test_the_folder_may_be_deleted_at_any_time(cache):
    lease = cache.lease("a", writing(b"abc"))
    with lease.path.open("rb") as opened:
        shutil.rmtree(cache.folder)

        assert opened.read() == b"abc"

    fill(cache, "a", "b")
    assert names(cache) == ["a", "b"]


def test_the_folder_may_be_deleted_while_an_entry_is_made(cache):
    left = [1, 1]

    def make(target: Path) -> None:
        target.write_bytes(b"abc")
        if left:
            left.pop()
            shutil.rmtree(cache.folder)

    with cache.lease("a", make) as lease:
        assert lease.path.read_bytes() == b"abc"


def test_one_who_deletes_it_forever_is_named(cache):
    def make(target: Path) -> None:
        target.write_bytes(b"abc")
        shutil.rmtree(cache.folder)

    with pytest.raises(ConflictError, match="deletes the cache"):
        cache.lease("a", make)


def test_a_maker_that_fails_leaves_nothing(cache):
    def make(target: Path) -> None:
        target.write_bytes(b"abc")
        raise KeyError("x")

    with pytest.raises(KeyError):
        cache.lease("a", make)

    assert cache.size_bytes == 0


def test_on_a_full_disk_the_unused_goes_before_giving_up(cache):
    fill(cache, "a", "b")
    left = [1]

    def make(target: Path) -> None:
        if left:
            left.pop()
            raise StorageFullError("cannot write", next_step="free some space")
        target.write_bytes(b"abc")

    cache.lease("c", make).close()

    assert names(cache) == ["c"]


def test_a_disk_that_stays_full_is_an_error(cache, full_disk, tmp_path):
    with full_disk(10_000), pytest.raises(OSError):
        cache.lease("a", writing(bytes(100_000)))

    assert cache.size_bytes == 0


def test_a_limit_is_not_negative(tmp_path):
    with pytest.raises(InputError, match="limit_bytes"):
        DiskCache(tmp_path, -1)


def _count_in_file(folder, counter):
    def make(target: Path) -> None:
        with Path(counter).open("a") as sink:
            sink.write("x")
        target.write_bytes(b"abc")

    cache = DiskCache(Path(folder), 1_000)
    for _ in range(20):
        for name in "abc":
            with cache.lease(name, make) as lease:
                assert lease.path.read_bytes() == b"abc"


def _die_while_making(folder, started):
    def make(target: Path) -> None:
        target.write_bytes(bytes(900))
        started.set()
        signal.pause()

    DiskCache(Path(folder), 1_000).lease("a", make)


@pytest.mark.slow
def test_two_processes_that_fill_one_cache_make_each_entry_once(tmp_path):
    spawn = multiprocessing.get_context("spawn")
    counter = tmp_path / "counter"
    processes = [spawn.Process(target=_count_in_file, args=(str(tmp_path / "cache"), str(counter))) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()

    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert counter.read_text() == "xxx"


@pytest.mark.slow
def test_who_dies_while_making_is_replaced_and_leaves_no_room_taken(tmp_path):
    spawn = multiprocessing.get_context("spawn")
    started = spawn.Event()
    process = spawn.Process(target=_die_while_making, args=(str(tmp_path / "cache"), started))
    process.start()
    started.wait()
    process.kill()
    process.join()

    cache = DiskCache(tmp_path / "cache", 1_000)
    fill(cache, "b", "c")
    cache.lease("a", writing(b"abc")).close()

    assert names(cache) == ["a", "b", "c"]
