import os
from pathlib import Path

import pytest

from shoal.base import ConfigError, ConflictError, NotFoundError, RemoteError, UnsupportedError
from shoal.data.remote.location import parse_location
from shoal.data.remote.objects import NoRangesError, ObjectStore

# What goes wrong once and must not be noticed.
PASSING = [
    ("stall", {}),
    ("reset", {}),
    ("truncate", {}),
    ("status", {"status": 500}),
    ("status", {"status": 503}),
    ("status", {"status": 429}),
]


def test_ranges_and_whole_objects_come_with_the_same_facts(store, put):
    data = put("x.bin", 100_000)

    piece = store.read_range("x.bin", 10, 1_000)

    assert bytes(piece.data) == data[10:1_000]
    assert store.read("x.bin") == data
    assert piece.facts == store.facts("x.bin")
    assert piece.facts.size_bytes == len(data)


@pytest.mark.parametrize(("kind", "order"), PASSING)
def test_a_fault_that_passes_is_not_seen(store, put, server, kind, order):
    data = put("x.bin", 10_000)
    server.fail(kind, "x.bin", **order)

    assert bytes(store.read_range("x.bin", 0, 10_000).data) == data
    assert server.traffic.count("GET", "x.bin") == 2


@pytest.mark.parametrize(("kind", "order"), [*PASSING[1:3], PASSING[4]])
def test_a_fault_that_stays_is_an_error_that_names_url_attempts_and_cause(store, put, server, kind, order):
    put("x.bin", 10_000)
    server.fail(kind, "x.bin", times=10_000, **order)

    with pytest.raises(RemoteError, match=r"bucket/x\.bin.*: \d+ attempts? in .* s failed, the last with: .*; next: "):
        store.read_range("x.bin", 0, 10_000)


def test_pieces_are_the_bytes_in_their_order_and_name_the_object(store, put):
    data = put("x.bin", 3_000_000)

    pieces = list(store.read_pieces("x.bin", 10, 5_000_000))

    assert b"".join(piece.data for piece in pieces) == data[10:]
    assert {piece.facts for piece in pieces} == {store.facts("x.bin")}


@pytest.mark.parametrize(("kind", "order"), PASSING)
def test_pieces_go_on_where_a_fault_broke_them_off(store, put, server, kind, order):
    data = put("x.bin", 1_000_000)
    server.fail(kind, "x.bin", times=2, **order)

    assert b"".join(piece.data for piece in store.read_pieces("x.bin", 0, 1_000_000)) == data
    assert server.traffic.count("GET", "x.bin") == 3


def test_pieces_of_a_store_that_gives_nothing_more_end_with_an_error(store, put, server):
    data = put("x.bin", 1_000_000)
    server.fail("truncate", "x.bin", times=2)
    server.fail("status", "x.bin", times=10_000, status=503)
    came = []

    with pytest.raises(RemoteError, match=r"bucket/x\.bin.*503"):
        came.extend(piece.data for piece in store.read_pieces("x.bin", 0, 1_000_000))

    assert 0 < len(b"".join(came)) < len(data)
    assert data.startswith(b"".join(came))


def test_what_is_not_there_is_said_at_once(store, server):
    with pytest.raises(NotFoundError, match=r"bucket/nothing"):
        store.read("nothing")

    assert not store.has("nothing")
    assert server.traffic.count("GET") == 1


@pytest.mark.parametrize("status", [401, 403])
def test_refused_access_is_not_tried_again_and_names_the_credentials(store, put, server, status):
    put("x.bin", 10)
    server.fail("status", status=status, times=5)

    with pytest.raises(RemoteError, match="credentials in the environment"):
        store.read("x.bin")

    assert server.traffic.count("GET") == 1


def test_a_server_without_ranges_says_so(store, put, server):
    put("x.bin", 1_000)
    server.ranges = False

    with pytest.raises(NoRangesError):
        store.read_range("x.bin", 0, 10)
    with pytest.raises(NoRangesError):
        next(store.read_pieces("x.bin", 0, 10))


def test_of_rivals_that_create_one_key_one_succeeds(server, retrier):
    store = ObjectStore(parse_location(server.s3_url("bucket")), retrier)
    store.create("versions/1", b"mine")

    with pytest.raises(ConflictError):
        store.create("versions/1", b"theirs")

    assert store.read("versions/1") == b"mine"


def test_a_create_whose_answer_was_lost_counts_as_ours(server, retrier):
    store = ObjectStore(parse_location(server.s3_url("bucket")), retrier)
    store.create("versions/1", b"mine")

    store.create("versions/1", b"mine")


def test_large_files_go_up_in_parts_and_failures_on_the_way_pass(server, retrier, tmp_path):
    store = ObjectStore(parse_location(server.s3_url("bucket")), retrier)
    (tmp_path / "large").write_bytes(bytes(20 << 20))
    server.fail("status", "large", method="PUT", status=500)

    store.write("large", tmp_path / "large")

    assert store.facts("large").size_bytes == 20 << 20
    assert server.traffic.count("PUT", "partNumber=3") >= 1


def test_a_folder_is_a_store_too(tmp_path, retrier):
    store = ObjectStore(parse_location(f"file://{tmp_path}/deep/er"), retrier)
    with pytest.raises(NotFoundError):
        store.read("a")

    store.create("a/b", b"x")

    assert store.read("a/b") == b"x"
    assert [facts.key for facts in store.names("a")] == ["a/b"]
    with pytest.raises(ConflictError):
        store.create("a/b", b"y")


def test_a_web_server_cannot_be_listed_nor_written_safely(server, retrier):
    store = ObjectStore(parse_location(server.url("bucket")), retrier)

    with pytest.raises(UnsupportedError, match="list"):
        store.names()
    with pytest.raises(UnsupportedError, match="change"):
        store.create("x", b"")


def test_an_unknown_option_is_named(retrier):
    with pytest.raises(ConfigError, match="colour"):
        ObjectStore(parse_location("s3://bucket", {"colour": "red"}), retrier).read("x")


def test_a_stream_gives_the_whole_object(store, put):
    data = put("x.bin", 3_000_000)

    facts, pieces = store.stream("x.bin")

    assert b"".join(pieces) == data
    assert facts.size_bytes == len(data)


def test_the_file_store_of_a_path_with_a_space(tmp_path, retrier):
    folder = Path(tmp_path / "a b")
    folder.mkdir()
    (folder / "x").write_bytes(b"1")

    assert ObjectStore(parse_location(f"file://{folder}"), retrier).read("x") == b"1"


def test_a_forked_child_is_refused_instead_of_breaking_its_parent(store, put):
    put("x.bin", b"abc")
    store.read("x.bin")
    child = os.fork()
    if child == 0:
        try:
            store.read("x.bin")
        except UnsupportedError:
            os._exit(7)
        os._exit(1)

    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert store.read("x.bin") == b"abc"
