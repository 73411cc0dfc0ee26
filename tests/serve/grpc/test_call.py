import gzip
import math
import zlib
from types import SimpleNamespace

import pytest

from shoal.serve.grpc.call import Call
from shoal.serve.grpc.head import CallHead
from shoal.serve.wire.refusal import RefusedError, our_mistake


class Post:
    """Notes what is sent."""

    def __init__(self):
        self.sent = []

    def send(self, call, message):
        self.sent.append(message)

    def send_refusal(self, call, refused):
        self.sent.append(refused.status)


@pytest.fixture
def post():
    return Post()


@pytest.fixture
def call(post):
    return Call(post, 1, CallHead(), 0.0)


def framed(message, mark=0):
    return bytes([mark]) + len(message).to_bytes(4, "big") + message


def fill(call, data, most_bytes=1000):
    return [call.add(data[at : at + 1], most_bytes=most_bytes) for at in range(len(data))]


def status_of(work):
    with pytest.raises(RefusedError) as caught:
        work()
    return caught.value.status


def test_a_message_is_put_together_and_announced_once(call):
    announced = fill(call, framed(b"message"))

    data, start = call.message(most_bytes=1000)

    assert data[start:] == b"message"
    assert [each for each in announced if each is not None] == [7]
    assert announced[4] == 7


def test_a_message_in_one_piece_is_not_copied(call):
    data = framed(b"message")
    call.add(data, most_bytes=1000)

    assert call.message(most_bytes=1000)[0] is data


@pytest.mark.parametrize(("encoding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
def test_compressed_messages_are_unpacked(post, encoding, pack):
    call = Call(post, 1, CallHead(encoding=encoding), 0.0)
    call.add(framed(pack(b"m" * 900), mark=1), most_bytes=1000)

    assert call.message(most_bytes=1000) == (b"m" * 900, 0)


def test_what_grows_beyond_the_limit_is_refused(post):
    call = Call(post, 1, CallHead(encoding="gzip"), 0.0)
    call.add(framed(gzip.compress(bytes(100_000)), mark=1), most_bytes=1000)

    assert status_of(lambda: call.message(most_bytes=1000)) == 413


@pytest.mark.parametrize(
    ("encoding", "data"),
    [
        ("identity", framed(b"abc", mark=1)),
        ("gzip", framed(b"abc", mark=1)),
        ("gzip", framed(gzip.compress(b"abc")[:-3], mark=1)),
        ("gzip", framed(gzip.compress(b"abc"), mark=2)),
    ],
)
def test_what_cannot_be_unpacked_is_refused(post, encoding, data):
    call = Call(post, 1, CallHead(encoding=encoding), 0.0)
    call.add(data, most_bytes=1000)

    assert status_of(lambda: call.message(most_bytes=1000)) == 400


def test_a_long_message_is_refused_by_its_prefix(call):
    assert status_of(lambda: call.add(b"\0" + (1001).to_bytes(4, "big"), most_bytes=1000)) == 413


def test_more_than_one_message_is_refused(call):
    assert status_of(lambda: call.add(framed(b"one") + b"\0", most_bytes=1000)) == 400


@pytest.mark.parametrize("data", [b"", b"\0\0", framed(b"message")[:-1]])
def test_a_message_that_is_cut_is_refused(call, data):
    if data:
        call.add(data, most_bytes=1000)

    assert status_of(lambda: call.message(most_bytes=1000)) == 400


def test_a_call_is_answered_once(call, post):
    call.give(b"first")
    call.answer(200, b"second")
    call.refuse(our_mistake())

    assert post.sent == [b"first"]
    assert (call.answered, call.answered_status) == (b"first", 200)


def test_a_refused_call_gets_no_answer(call, post):
    call.refuse(our_mistake())
    call.give(b"late")

    assert post.sent == [500]
    assert call.answered is not None


def test_what_waits_for_an_abandoned_call_is_late(call):
    call.abandon()
    waiting = SimpleNamespace(deadline_s=math.inf)
    call.waits_as(waiting)

    call.abandon()

    assert waiting.deadline_s < 0
