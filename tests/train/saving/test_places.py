import os
import stat
import time
from pathlib import Path

import pytest

from shoal.base import ConfigError, NotFoundError, RemoteError
from shoal.train.saving.places import FolderPlace, StorePlace, open_place, place_of_run, split_address

ONE, TWO = "0000000001", "0000000002"
FILES = {"a.bin": memoryview(b"aaa"), "b.bin": memoryview(bytearray(9 << 20))}


@pytest.fixture
def place(address):
    return open_place(address)


def names(place):
    return [(found.name, found.is_complete) for found in place.found()]


def test_nothing_is_found_where_nothing_is(place):
    assert place.found() == []
    assert not place.has(ONE)
    place.tidy()
    place.remove([ONE])
    with pytest.raises(NotFoundError):
        place.read(ONE, "a.bin")


def test_what_is_published_is_there_whole(place):
    place.publish(TWO, FILES, b"{}")
    place.publish(ONE, {}, b"{1}")

    assert names(place) == [(ONE, True), (TWO, True)]
    assert place.has(ONE)
    assert place.read(TWO, "a.bin") == b"aaa"
    assert place.read(TWO, "b.bin") == bytes(9 << 20)
    assert place.read(TWO, "checkpoint.json") == b"{}"
    with pytest.raises(NotFoundError):
        place.read(TWO, "c.bin")


def test_it_takes_the_place_of_what_bore_the_name(place):
    place.publish(ONE, FILES, b"{}")

    place.publish(ONE, {"a.bin": memoryview(b"new")}, b"{2}")

    assert place.read(ONE, "a.bin") == b"new"
    assert place.read(ONE, "checkpoint.json") == b"{2}"


def test_what_is_removed_is_gone(place):
    place.publish(ONE, FILES, b"{}")
    place.publish(TWO, FILES, b"{}")

    place.remove([ONE, "0000000009"])

    assert names(place) == [(TWO, True)]
    assert not place.has(ONE)


def test_an_address_leads_back(place):
    place.publish(ONE, FILES, b"{}")

    again, name = split_address(place.address(ONE))

    assert (str(again), name) == (str(place), ONE)
    assert again.read(ONE, "a.bin") == b"aaa"


def test_a_place_that_can_be_written_says_nothing_and_is_left_empty(place, server, tmp_path):
    place.probe()

    assert place.found() == []
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_the_time_it_was_written_is_told(place):
    began_s = time.time()
    place.publish(ONE, FILES, b"{}")

    (found,) = place.found()

    # The clock of a file system may lag behind by a tick.
    assert began_s - 1 <= found.written_s <= time.time() + 1


def test_other_things_in_a_folder_are_nobodys_business(tmp_path):
    place = FolderPlace(tmp_path)
    place.publish(ONE, FILES, b"{}")
    for other in ("notes", "123", "00000000xx", ".hidden.tmp", f"{TWO}.copy"):
        (tmp_path / other).mkdir()
    (tmp_path / "0000000007").write_text("a file")

    place.tidy()

    assert names(place) == [(ONE, True)]
    assert len(list(tmp_path.iterdir())) == 7


def test_other_objects_in_a_store_are_nobodys_business(server):
    place = StorePlace(server.s3_url("bucket/runs"))
    place.publish(ONE, FILES, b"{}")
    for other in ("notes", "123/a", f"{TWO}.copy/a", f"deep/{TWO}/checkpoint.json"):
        path = server.folder / "bucket" / "runs" / other
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")

    place.tidy()

    assert names(place) == [(ONE, True)]
    assert (server.folder / "bucket/runs/123/a").exists()


def test_what_a_killed_writer_left_is_removed(tmp_path):
    place = FolderPlace(tmp_path)
    (tmp_path / f".{ONE}.abcdefgh.tmp").mkdir()
    (tmp_path / f".{ONE}.abcdefgh.tmp" / "model.safetensors").write_bytes(b"x")

    place.tidy()

    assert list(tmp_path.iterdir()) == []


def test_objects_without_a_manifest_are_no_checkpoint_and_are_removed(server):
    place = StorePlace(server.s3_url("bucket/runs"))
    place.publish(TWO, FILES, b"{}")
    (server.folder / "bucket/runs" / ONE).mkdir()
    (server.folder / "bucket/runs" / ONE / "model.safetensors").write_bytes(b"x")
    assert names(place) == [(ONE, False), (TWO, True)]

    place.tidy()

    assert names(place) == [(TWO, True)]
    assert not (server.folder / "bucket/runs" / ONE / "model.safetensors").exists()


def test_the_manifest_is_uploaded_last_and_the_old_one_goes_first(server):
    place = StorePlace(server.s3_url("bucket/runs"))
    place.publish(ONE, {"a.bin": memoryview(b"1")}, b"{}")
    server.traffic.requests.clear()

    place.publish(ONE, {"a.bin": memoryview(b"2")}, b"{}")

    asked = [(method, path.rpartition("/")[2].partition("?")[0]) for method, path, _, _ in server.traffic.requests]
    assert asked == [("POST", "bucket"), ("PUT", "a.bin"), ("PUT", "checkpoint.json")]


def test_an_upload_that_fails_leaves_nothing_that_looks_whole(server):
    place = StorePlace(server.s3_url("bucket/runs"))
    server.fail("status", "b.bin", times=1000, status=403, method="POST")

    with pytest.raises(RemoteError, match="access was refused"):
        place.publish(ONE, FILES, b"{}")

    assert names(place) == [(ONE, False)]


def test_faults_that_pass_are_not_seen(server):
    place = StorePlace(server.s3_url("bucket/runs"))
    server.fail("status", "checkpoint.json", times=2, status=503, method="PUT")
    server.fail("reset", "a.bin", method="PUT")

    place.publish(ONE, FILES, b"{}")

    assert place.read(ONE, "b.bin") == bytes(9 << 20)


def test_a_file_where_a_folder_should_be_is_said_at_the_start(tmp_path):
    (tmp_path / "taken").write_text("x")

    with pytest.raises(ConfigError, match=r"cannot keep checkpoints at .*taken"):
        FolderPlace(tmp_path / "taken").probe()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written_is_said_at_the_start(tmp_path):
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)

    with pytest.raises(ConfigError, match="Permission denied"):
        FolderPlace(tmp_path / "x").probe()


def test_a_web_server_takes_no_checkpoints():
    with pytest.raises(ConfigError, match="a web server takes no files"):
        open_place("https://example.org/runs")


def test_a_file_url_is_a_folder(tmp_path):
    assert str(open_place(f"file://{tmp_path}/x")) == str(tmp_path / "x")
    assert split_address(f"file://{tmp_path}/x/{ONE}")[1] == ONE


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, "/home/.shoal/runs/r-1/checkpoints"),
        ("/data/runs", "/data/runs/r-1"),
        (Path("/data/runs"), "/data/runs/r-1"),
        ("s3://bucket/runs/?region=eu-west-1", "s3://bucket/runs/r-1?region=eu-west-1"),
        ("s3://bucket", "s3://bucket/r-1"),
    ],
)
def test_each_run_has_a_place_of_its_own(given, expected):
    assert place_of_run(given, run_folder=Path("/home/.shoal/runs/r-1"), run_id="r-1") == expected
