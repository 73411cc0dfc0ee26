import itertools
import tempfile
from contextlib import nullcontext

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from shoal.base import CorruptError, NotFoundError, RemoteError, StorageFullError
from shoal.data.remote.fetching import Content, _CheckedRange, _DifferentError, fetch_file
from shoal.data.storage.chunks import chunk_sums

SIZE = 1_000_000
CHUNK = 64 << 10


def content_of(data):
    return Content(len(data), *chunk_sums(np.frombuffer(data, np.uint8)))


def spans(server):
    return [(start, stop) for method, _, start, stop in server.traffic.requests if method == "GET"]


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


def test_only_what_follows_the_last_right_chunk_is_asked_for_again(store, put, server, target):
    data = put("x.bin", SIZE)
    # In the middle of it, and so in its eighth chunk.
    server.fail("wrong_bytes", "x.bin")

    fetch_file(store, "x.bin", target, content_of(data), num_together=4)

    assert target.read_bytes() == data
    assert spans(server) == [(0, SIZE), (7 * CHUNK, SIZE)]


@pytest.mark.parametrize("kind", ["reset", "truncate"])
def test_what_broke_off_goes_on_where_it_broke_off(store, put, server, target, kind):
    data = put("x.bin", SIZE)
    server.fail(kind, "x.bin", times=3)

    fetch_file(store, "x.bin", target, content_of(data), num_together=4)

    starts = [start for start, _ in spans(server)]
    assert target.read_bytes() == data
    # A reset may lose what was under way; it never loses what came before, and nothing is asked for twice otherwise.
    assert starts == sorted(starts)
    assert kind == "reset" or all(start < after for start, after in itertools.pairwise(starts))


@pytest.mark.parametrize(("num_together", "num_ranges"), [(1, 4), (2, 2), (4, 1), (100, 1)])
def test_files_that_are_fetched_together_share_the_requests(store, put, server, target, num_together, num_ranges):
    data = put("x.bin", SIZE)

    fetch_file(store, "x.bin", target, content_of(data), num_together=num_together)

    assert target.read_bytes() == data
    assert len(spans(server)) == num_ranges
    assert server.traffic.sent_bytes == SIZE


@given(cuts=st.lists(st.integers(1, 3 * CHUNK), max_size=40), flipped=st.none() | st.integers(0, SIZE - 1))
@example(cuts=[1] * 20, flipped=None)
def test_however_a_range_is_cut_only_right_chunks_are_written(cuts, flipped):
    data = np.random.default_rng(0).bytes(SIZE)
    came = bytearray(data)
    if flipped is not None:
        came[flipped] ^= 1
    with tempfile.TemporaryFile() as file:
        taken = _CheckedRange(file.fileno(), 0, SIZE, content_of(data).decoded_sums(), CHUNK)

        with pytest.raises(_DifferentError) if flipped is not None else nullcontext():
            for start, stop in itertools.pairwise([0, *itertools.accumulate(cuts), SIZE]):
                taken.add(memoryview(came)[start:stop])

        assert taken.right == (SIZE if flipped is None else flipped // CHUNK * CHUNK)
        file.seek(0)
        assert file.read() == data[: taken.right]


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
