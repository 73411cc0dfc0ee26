import numpy as np
import pytest

from shoal.base import CorruptError, NotFoundError, RemoteError, StorageFullError
from shoal.data.remote.fetching import Content, fetch_file
from shoal.data.storage.chunks import chunk_sums

SIZE = 1_000_000


def content_of(data):
    return Content(len(data), *chunk_sums(np.frombuffer(data, np.uint8)))


@pytest.fixture
def target(tmp_path):
    return tmp_path / "target"


@pytest.mark.parametrize("ranges", [True, False], ids=["ranges", "no-ranges"])
@pytest.mark.parametrize("size", [0, 1, 65_536, SIZE])
def test_fetches_every_byte_once(store, put, server, target, size, ranges):
    data = put("x.bin", size)
    server.ranges = ranges

    fetch_file(store, "x.bin", target, content_of(data))

    assert target.read_bytes() == data
    if ranges:
        assert server.traffic.sent_bytes == size


@pytest.mark.parametrize("ranges", [True, False], ids=["ranges", "no-ranges"])
@pytest.mark.parametrize(
    ("kind", "order"),
    [("stall", {}), ("reset", {}), ("truncate", {}), ("status", {"status": 500}), ("wrong_bytes", {})],
)
def test_a_fault_that_passes_is_not_seen(store, put, server, target, kind, order, ranges):
    data = put("x.bin", SIZE)
    server.ranges = ranges
    server.fail(kind, "x.bin", times=2, **order)

    fetch_file(store, "x.bin", target, content_of(data))

    assert target.read_bytes() == data


def test_only_the_wrong_range_is_asked_for_again(store, put, server, target):
    data = put("x.bin", SIZE)
    server.fail("wrong_bytes", "x.bin")

    fetch_file(store, "x.bin", target, content_of(data))

    assert server.traffic.sent_bytes <= SIZE + store.retrier.settings.range_bytes


@pytest.mark.parametrize("ranges", [True, False], ids=["ranges", "no-ranges"])
@pytest.mark.parametrize("size", [SIZE, SIZE - 1], ids=["other bytes", "shorter"])
def test_a_replaced_object_is_an_error_that_names_it(store, put, server, target, size, ranges):
    data = put("x.bin", SIZE)
    put("x.bin", size)
    server.ranges = ranges

    with pytest.raises(CorruptError, match=r"bucket/x\.bin.* is damaged or was replaced"):
        fetch_file(store, "x.bin", target, content_of(data))


def test_an_object_that_is_replaced_in_the_middle_is_never_mixed(store, put, server, target):
    data = put("x.bin", SIZE)
    server.fail("wrong_bytes", "x.bin", times=10_000)

    with pytest.raises(CorruptError, match=r"bucket/x\.bin"):
        fetch_file(store, "x.bin", target, content_of(data))


def test_a_store_that_stays_away_is_an_error_within_the_deadline(store, put, server, target):
    data = put("x.bin", SIZE)
    server.fail("status", "x.bin", times=10_000, status=503)

    with pytest.raises(RemoteError, match=r"\d+ attempts? in .* s failed, the last with: .*503"):
        fetch_file(store, "x.bin", target, content_of(data))


def test_what_is_not_there_is_said(store, target):
    with pytest.raises(NotFoundError):
        fetch_file(store, "nothing", target, content_of(b"abc"))


def test_a_full_disk_is_said_as_such(store, put, target, full_disk):
    data = put("x.bin", SIZE)

    with full_disk(100_000), pytest.raises(StorageFullError, match="target"):
        fetch_file(store, "x.bin", target, content_of(data))
