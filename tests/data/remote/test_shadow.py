import multiprocessing
import os
import pickle
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from xxhash import xxh3_64_intdigest

import shoal
from shoal.base import CorruptError, NotFoundError, RemoteError, UnsupportedError
from shoal.data.remote import shadow, shadows
from shoal.data.remote.location import parse_location
from shoal.data.remote.shadow import cache_limit_bytes
from shoal.data.remote.shadows import open_shadow
from shoal.data.storage import chunks
from shoal.testing import object_server


@pytest.fixture
def clicks(server, home, make_rows):
    """A dataset of 400 rows in 4 shards, written to a bucket; its URL."""
    url = server.s3_url("bucket/clicks")
    shoal.data.ingest(make_rows(400), url, num_shards=4)
    home()
    return url


@pytest.fixture
def impatient(retrier):
    """Open a URL's shadow with patience in made time, before anybody else opens it."""
    return lambda url: open_shadow(parse_location(url), retrier=retrier)


def users(dataset):
    return sorted(dataset.arrays(["user"])["user"].tolist())


def test_what_was_written_is_read_from_another_machine(clicks, row_key, make_rows):
    dataset = shoal.data.open(clicks)

    assert row_key(dataset.arrays()) == row_key(make_rows(400))
    assert dataset.profile.columns["label"].count == 400


def test_a_plain_web_server_gives_the_same_dataset(clicks, server):
    dataset = shoal.data.open(server.url("bucket/clicks"))

    assert dataset.digest == shoal.data.open(clicks).digest
    dataset.verify()


def test_a_web_server_without_lists_is_probed(clicks, server, make_rows):
    dataset = shoal.data.open(clicks)
    for seed in range(1, 5):
        dataset = dataset.append(make_rows(5, seed=seed))
    server.listing = False

    assert shoal.data.open(server.url("bucket/clicks")).version == 5


def answering_everything(server, monkeypatch, data):
    """Make a web server answer any path that it does not have with these bytes."""
    server.listing = False
    (server.folder / "everything").write_bytes(data)
    target = object_server._Handler._target

    def instead(self):
        path, query = target(self)
        return (path if path.exists() else server.folder / "everything"), query

    monkeypatch.setattr(object_server._Handler, "_target", instead)


def test_a_web_server_that_answers_everything_is_no_dataset(server, home, monkeypatch):
    answering_everything(server, monkeypatch, b"<html>welcome</html>")

    with pytest.raises(NotFoundError, match="nothing"):
        shoal.data.open(server.url("nothing"))
    with pytest.raises(CorruptError, match="nothing"):
        shoal.data.open(server.url("nothing"), 3)


@pytest.mark.parametrize("is_first", [False, True], ids=["a page", "its first version"])
def test_versions_are_counted_on_a_web_server_that_answers_everything(clicks, server, monkeypatch, make_rows, is_first):
    shoal.data.open(clicks).append(make_rows(5, seed=1))
    first = (server.folder / "bucket" / "clicks" / "versions" / "000001.json").read_bytes()
    answering_everything(server, monkeypatch, first if is_first else b"<html>welcome</html>")

    assert shoal.data.open(server.url("bucket/clicks")).version == 2


def test_nothing_but_the_manifest_is_fetched_on_opening(clicks, server):
    server.traffic.requests.clear()

    shoal.data.open(clicks)

    assert server.traffic.count("GET", "/shards/") == 0


def test_every_shard_is_fetched_once_however_often_it_is_read(clicks, server):
    dataset = shoal.data.open(clicks)
    for _ in range(2):
        users(dataset)
    users(shoal.data.open(clicks))

    assert server.traffic.count("GET", "/shards/") == 4


def test_the_address_names_the_url_and_opens_again(clicks, server):
    part = shoal.data.open(clicks).split(0.5, 0.5)[0]

    again = shoal.data.open(part.address)

    assert part.address.startswith("s3://bucket/clicks")
    assert (again.digest, users(again)) == (part.digest, users(part))


def test_versions_are_opened_by_number(clicks, make_rows):
    dataset = shoal.data.open(clicks).append(make_rows(10, seed=1))

    assert (dataset.version, dataset.num_rows) == (2, 410)
    assert shoal.data.open(clicks, 1).num_rows == 400
    with pytest.raises(NotFoundError, match="its versions are 1 to 2"):
        shoal.data.open(clicks, 7)


def test_a_place_without_a_dataset_is_said(server, home):
    with pytest.raises(NotFoundError, match="bucket/nothing"):
        shoal.data.open(server.s3_url("bucket/nothing"))


def test_many_versions_are_opened_from_few_files(clicks, server, make_rows, home):
    dataset = shoal.data.open(clicks)
    for seed in range(1, 20):
        dataset = dataset.append(make_rows(2, seed=seed))
    home()
    server.traffic.requests.clear()

    assert shoal.data.open(clicks).num_rows == 438
    assert server.traffic.count("GET", "/versions/") <= 17


def test_two_writers_on_two_machines_both_arrive(clicks, home, make_rows):
    one = shoal.data.open(clicks)
    home()
    other = shoal.data.open(clicks)

    one.append(make_rows(10, seed=1))
    merged = other.append(make_rows(20, seed=2))

    assert (merged.version, merged.num_rows) == (3, 430)


def test_a_version_that_is_published_in_between_is_built_upon(clicks, home, make_rows, monkeypatch):
    rival = shoal.data.open(clicks)
    home()
    mine = shoal.data.open(clicks)
    create = shadow.Shadow.create_version
    once = [1]

    def late(self, path, data):
        if once and self.folder == mine.path:
            once.pop()
            rival.append(make_rows(10, seed=1))
        return create(self, path, data)

    monkeypatch.setattr(shadow.Shadow, "create_version", late)
    merged = mine.append(make_rows(20, seed=2))

    assert (merged.version, merged.num_rows) == (3, 430)


def test_another_dataset_in_the_same_place_replaces_what_was_remembered(clicks, server, make_rows, home):
    first = shoal.data.open(clicks)
    remembered = home()
    shutil.rmtree(server.folder / "bucket" / "clicks")
    shoal.data.ingest(make_rows(30, seed=9), clicks)
    os.chdir(first.path.parents[4])

    assert remembered != first.path.parents[3]
    assert shoal.data.open(clicks).num_rows == 30


def test_shards_that_wait_for_their_upload_are_read_from_where_they_are(clicks, make_rows, monkeypatch):
    dataset = shoal.data.open(clicks)
    monkeypatch.setattr(shadow.Shadow, "upload_shards", lambda self: None)

    grown = dataset.append(make_rows(10, seed=1))

    assert grown.num_rows == len(users(grown)) == 410


def test_an_upload_that_fails_leaves_the_dataset_as_it_was_and_goes_on_later(clicks, server, make_rows, impatient):
    impatient(clicks)
    dataset = shoal.data.open(clicks)
    server.fail("status", "/shards/", method="PUT", status=500, times=10_000)
    with pytest.raises(RemoteError, match="cannot write"):
        dataset.append(make_rows(10, seed=1))
    server.faults.clear()

    assert shoal.data.open(clicks).version == 1
    assert dataset.append(make_rows(10, seed=1)).num_rows == 410


def test_web_servers_are_not_written_to(server, home, make_rows):
    with pytest.raises(UnsupportedError, match="web server"):
        shoal.data.ingest(make_rows(10), server.url("bucket/clicks"))


@pytest.mark.parametrize("kind", ["stall", "reset", "truncate", "wrong_bytes", "status"])
def test_an_epoch_is_whole_whatever_passes_on_the_way(clicks, server, impatient, kind):
    impatient(clicks)
    server.fail(kind, "/shards/", times=3, status=503)

    loader = shoal.data.open(clicks).loader(batch_size=64, shuffle=True, format="numpy")

    assert sorted(user for batch in loader for user in batch["user"]) == users(shoal.data.open(clicks))


def test_an_epoch_over_a_store_that_is_gone_is_an_error_and_never_short(clicks, server, impatient):
    impatient(clicks)
    loader = shoal.data.open(clicks).loader(batch_size=64, format="numpy")
    server.fail("status", "/shards/", times=10_000, status=503)

    with pytest.raises(RemoteError, match="/shards/"):
        list(loader)


def test_a_shard_that_was_replaced_in_the_store_is_refused_by_name(clicks, server, impatient):
    impatient(clicks)
    shard = next((server.folder / "bucket" / "clicks" / "shards").iterdir())
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)

    with pytest.raises(CorruptError, match=shard.name):
        users(shoal.data.open(clicks))


def test_a_damaged_copy_is_fetched_again(clicks, server):
    users(shoal.data.open(clicks))
    copies = sorted((shoal.data.open(clicks).path.parents[2] / "shards" / "entries").iterdir())
    data = bytearray(copies[0].read_bytes())
    data[1_000] ^= 1
    copies[0].write_bytes(data)
    shadows._known.clear()

    assert len(users(shoal.data.open(clicks))) == 400
    assert server.traffic.count("GET", "/shards/") == 5


def test_what_was_summed_as_it_came_is_not_summed_again_by_this_process(clicks, monkeypatch):
    dataset = shoal.data.open(clicks)
    sums = []
    monkeypatch.setattr(chunks, "xxh3_64_intdigest", lambda data: sums.append(len(data)) or xxh3_64_intdigest(data))

    users(dataset)
    num_fetched = len(sums)
    chunks._known.clear()
    users(shoal.data.open(clicks))

    assert num_fetched == 0
    # Another process knows nothing of that, and sums what it reads.
    assert len(sums) == 4


def test_the_cache_may_be_deleted_in_the_middle_of_an_epoch(clicks):
    dataset = shoal.data.open(clicks)
    batches = iter(dataset.loader(batch_size=50, format="numpy"))
    seen = list(next(batches)["user"])
    shutil.rmtree(dataset.path.parents[2])

    seen += [user for batch in batches for user in batch["user"]]

    assert len(set(seen)) == 400


def test_a_cache_smaller_than_one_shard_gives_whole_epochs(clicks, tmp_path, home):
    (home().parent / "shoal.toml").write_text("cache_bytes = 100\n")

    dataset = shoal.data.open(clicks)

    assert len(users(dataset)) == 400


def test_a_full_disk_while_fetching_is_said_as_such(clicks, full_disk):
    dataset = shoal.data.open(clicks)

    with full_disk(2_000), pytest.raises(shoal.base.StorageFullError):
        users(dataset)

    assert len(users(dataset)) == 400


def test_threads_that_ask_for_one_shard_fetch_it_once(clicks, server):
    dataset = shoal.data.open(clicks)
    barrier = threading.Barrier(6)

    def ask(_):
        barrier.wait()
        return dataset.shard_path(dataset.shards[0])

    with ThreadPoolExecutor(6) as pool:
        assert len(set(pool.map(ask, range(6)))) == 1

    assert server.traffic.count("GET", "/shards/") == 1


def test_the_limit_is_what_the_settings_say_else_half_of_what_is_free(home, tmp_path):
    assert cache_limit_bytes(tmp_path / "none") >= 1 << 30

    (home().parent / "shoal.toml").write_text("cache_bytes = 12345\n")

    assert cache_limit_bytes(tmp_path) == 12345


def _read_all(url, folder, batch_size, rank, queue):
    os.chdir(folder)
    loader = shoal.data.open(url).loader(
        batch_size=batch_size, shuffle=True, format="numpy", rank=rank, world_size=2, columns=["label"]
    )
    queue.put(sum(len(batch["label"]) for batch in loader))


@pytest.mark.slow
def test_workers_that_share_a_host_fetch_each_byte_once(clicks, server, home):
    folder = home().parent
    server.traffic.requests.clear()
    server.traffic.sent_bytes = 0
    spawn = multiprocessing.get_context("spawn")
    queue = spawn.Queue()
    workers = [spawn.Process(target=_read_all, args=(clicks, folder, 40, rank, queue)) for rank in range(2)]
    for worker in workers:
        worker.start()
    rows = sum(queue.get(timeout=120) for _ in workers)
    for worker in workers:
        worker.join()

    fetched = sum(
        stop - start for method, path, start, stop in server.traffic.requests if method == "GET" and "/shards/" in path
    )
    assert rows == 400
    assert fetched == sum(shard.size_bytes for shard in shoal.data.open(clicks).shards)


def test_rows_written_by_one_and_read_by_numpy_are_equal(clicks):
    dataset = shoal.data.open(clicks)

    assert np.array_equal(dataset.take(np.arange(5))["label"], dataset.arrays()["label"][:5])


@pytest.fixture
def many_sided(server, home):
    """A dataset with a quarantine, two versions and a preparation, seen from a fresh machine; its URL."""
    url = server.s3_url("bucket/sides")
    rows = [{"n": index, "x": float(index)} for index in range(50)]
    rows[7]["x"] = -1.0
    made = shoal.data.ingest(rows, url, checks=[shoal.data.quality.Range("x", minimum=0.0)], on_bad="quarantine")
    grown = made.append([{"n": index, "x": float(index)} for index in range(50, 80)])
    grown.prepare(shoal.data.Preparation({"x": [shoal.data.prepare.Standardise()]}))
    home()
    return url


def everything_of(dataset):
    return (
        dataset.num_rows,
        dataset.profile.columns["x"].count,
        dataset.quarantine.num_rows,
        dataset.quarantine.arrays(["reason"])["reason"].tolist(),
        dataset.diff(1).rows_added,
        dataset.balance,
        [version.version for version in dataset.history],
        dataset.preparation.digest,
    )


def test_a_dataset_in_a_store_can_all_that_one_in_a_folder_can(many_sided, server):
    local = shoal.data.open(server.folder / "bucket" / "sides")

    assert everything_of(shoal.data.open(many_sided)) == everything_of(local)


@pytest.mark.parametrize("travels", [False, True], ids=["here", "travelled"])
def test_all_of_it_comes_again_when_the_cache_was_deleted(many_sided, server, travels):
    dataset = shoal.data.open(many_sided)
    expected = everything_of(shoal.data.open(server.folder / "bucket" / "sides"))
    data = pickle.dumps(dataset)
    shutil.rmtree(dataset.path.parents[2])
    if travels:
        shadows._known.clear()
        dataset = pickle.loads(data)

    assert everything_of(dataset) == expected


def test_repair_brings_small_files_and_shards_again_from_the_store(clicks):
    dataset = shoal.data.open(clicks)
    users(dataset)
    next((dataset.path / "profiles").iterdir()).write_bytes(b"x")
    next((dataset.path / "versions").iterdir()).write_bytes(b"{}")

    with pytest.raises(CorruptError, match="1 files"):
        dataset.verify()
    assert len(dataset.repair()) == 2

    dataset.verify()
    assert shoal.data.open(clicks) == dataset


def test_what_is_damaged_in_the_store_comes_back_from_a_copy(clicks, server, tmp_path, impatient):
    impatient(clicks)
    dataset = shoal.data.open(clicks)
    dataset.mirror(tmp_path / "copy")
    shutil.rmtree(dataset.path.parents[2])
    stored = server.folder / "bucket" / "clicks"
    shards = sorted((stored / "shards").iterdir())
    shards[0].unlink()
    shards[1].write_bytes(bytes(shards[1].stat().st_size))
    shadows._known.clear()
    impatient(clicks)
    dataset = shoal.data.open(clicks)

    with pytest.raises(CorruptError, match=r"2 of 2 damaged files .* damaged in the store"):
        dataset.repair()
    assert sorted(dataset.repair(from_=tmp_path / "copy")) == [f"shards/{path.name}" for path in shards[:2]]

    shoal.data.open(stored).verify()
    assert len(users(dataset)) == 400
