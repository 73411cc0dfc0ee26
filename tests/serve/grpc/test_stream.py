"""A stream's requests and answers, with a line and a service that the test plays."""

import asyncio
import gzip

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2 as pb

from shoal.serve.desk.connection import Patience
from shoal.serve.grpc.head import CallHead
from shoal.serve.grpc.stream import Stream
from shoal.serve.wire.refusal import wrong_field

PATIENCE = Patience(request_s=10, idle_s=100, reader_s=20)


class Played:
    """The connection and the service in one."""

    most_body_bytes = 1000
    observer = None

    def __init__(self):
        self.calls, self.sent, self.statuses, self.holds, self.ends = [], [], [], [], []
        self.is_draining, self.is_open, self.answers_at_once, self.fails_with = False, True, False, None

    def begin_stream(self, stream):
        self.sent.append("begin")

    def send_streamed(self, stream, message, status):
        self.sent.append(pb.ModelStreamInferResponse.FromString(message))
        self.statuses.append(int(status))

    def hold_stream(self, stream, *, is_held):
        self.holds.append(is_held)

    def has_room(self, stream):
        return self.is_open

    def end_stream(self, stream, refused):
        self.ends.append(None if refused is None else int(refused.status))

    def admit_message(self, head, num_bytes):
        if num_bytes == 99:
            raise wrong_field("message", found=num_bytes, expected="another length")

    def take(self, call, data, start):
        call.request_id = data[start:].decode("latin-1")
        if self.fails_with is not None:
            raise self.fails_with
        self.calls.append(call)
        if self.answers_at_once:
            self.answer(call)

    @staticmethod
    def answer(call):
        call.give(pb.ModelInferResponse(id=call.request_id).SerializeToString())

    @property
    def told(self):
        """What was answered: the id, or the beginning of the error."""
        return [each.error_message[:12] or each.infer_response.id for each in self.sent[1:]]


@pytest.fixture
def played():
    return Played()


@pytest.fixture
def stream(played):
    return Stream(played, played, 1, CallHead())


def framed(message, mark=0):
    return bytes([mark]) + len(message).to_bytes(4, "big") + message


def send(stream, *messages, is_last=False):
    stream.add(b"".join(map(framed, messages)), is_last=is_last)


def test_answers_come_in_the_order_of_the_requests(stream, played):
    send(stream, b"a", b"b", b"c")
    for call in reversed(played.calls):
        played.answer(call)

    assert played.told == ["a", "b", "c"]
    assert played.statuses == [200, 200, 200]


def test_the_stream_ends_when_all_was_sent_and_answered(stream, played):
    send(stream, b"a", is_last=True)
    before = list(played.ends)
    played.answer(played.calls[0])

    assert before == []
    assert played.ends == [None]


def test_a_stream_without_requests_ends_well(stream, played):
    stream.add(b"", is_last=True)

    assert (played.sent, played.ends) == (["begin"], [None])


def test_a_bad_request_is_told_in_its_turn_and_the_stream_goes_on(stream, played):
    send(stream, b"a")
    played.fails_with = wrong_field("inputs", found="none", expected="one")
    send(stream, b"bad")
    played.fails_with = RuntimeError("a bug")
    send(stream, b"bug")
    played.fails_with = None
    send(stream, b"z" * 99, b"c")
    for call in played.calls:
        played.answer(call)

    assert played.told == ["a", "inputs: foun", "the server m", "message: fou", "c"]
    assert [each.infer_response.id for each in played.sent[1:]] == ["a", "bad", "bug", "", "c"]
    assert played.statuses == [200, 400, 500, 400, 200]
    assert played.ends == []


@pytest.mark.parametrize("cut", [1, 3, 7])
def test_requests_arrive_whole_however_they_were_cut(played, cut):
    played.answers_at_once = True
    stream = Stream(played, played, 1, CallHead())
    data = b"".join(framed(b"m" * size) for size in (0, 5, 99, 1, 300))

    for at in range(0, len(data), cut):
        stream.add(data[at : at + cut], is_last=at + cut >= len(data))

    assert [len(told) for told in played.told] == [0, 5, 12, 1, 300]
    assert played.ends == [None]
    assert stream.buffered_bytes == 0


def test_compressed_requests_are_unpacked(played):
    stream = Stream(played, played, 1, CallHead(encoding="gzip"))
    stream.add(framed(gzip.compress(b"small"), mark=1) + framed(b"not gzip", mark=1), is_last=False)

    assert [call.request_id for call in played.calls] == ["small"]


def test_what_is_too_large_to_be_kept_ends_the_stream(stream, played):
    send(stream, b"a")
    stream.add(framed(bytes(1001))[:10], is_last=False)

    assert played.ends == [413]
    assert played.calls[0].answered == b""
    send(stream, b"more")
    assert len(played.calls) == 1


def test_a_message_that_is_cut_ends_the_stream_after_the_answers(stream, played):
    stream.add(framed(b"a") + framed(b"bcd")[:-1], is_last=True)
    before = list(played.ends)
    played.answer(played.calls[0])

    assert before == []
    assert (played.told, played.ends) == (["a"], [400])


def test_a_client_with_many_open_requests_waits(stream, played):
    async def body():
        send(stream, *[b"%d" % number for number in range(200)])
        while len(played.calls) < 64:
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        num_open, holds = len(played.calls), list(played.holds)
        while len(played.told) < 200:
            for call in [call for call in played.calls if call.answered is None]:
                played.answer(call)
            await asyncio.sleep(0)
        return num_open, holds

    num_open, holds = asyncio.run(body())

    assert (num_open, holds) == (64, [True])
    assert played.told == [str(number) for number in range(200)]
    assert played.holds[-1] is False


def test_a_client_that_takes_no_answers_is_read_no_further(stream, played):
    send(stream, b"a")
    played.is_open = False
    played.answer(played.calls[0])
    send(stream, b"b")
    read = len(played.calls)
    played.is_open = True
    stream.go_on()

    assert (read, len(played.calls)) == (1, 2)
    assert played.holds == [True, False]


def test_many_small_requests_at_once_do_not_hold_up_the_loop(played):
    async def body():
        played.fails_with = wrong_field("inputs", found="none", expected="one")
        stream = Stream(played, played, 1, CallHead())
        stream.add(framed(b"") * 10_000, is_last=True)
        at_once = len(played.told)
        while not played.ends:
            await asyncio.sleep(0)
        return at_once

    assert asyncio.run(body()) < 100
    assert len(played.told) == 10_000
    assert played.ends == [None]


def test_an_abandoned_stream_sends_nothing_more(stream, played):
    send(stream, b"a", b"b")
    stream.abandon()
    for call in played.calls:
        played.answer(call)
    send(stream, b"c", is_last=True)
    stream.refuse(wrong_field("x", found=1, expected="2"))

    assert (played.told, played.ends, len(played.calls)) == ([], [], 2)


@pytest.mark.parametrize("start", [b"\0\0", framed(b"abc")[:-1], framed(b"z" * 99)[:-1]])
def test_a_message_that_drips_in_is_given_up(stream, played, start):
    began_s = stream._since_s
    for at in range(len(start)):
        stream.add(start[at : at + 1], is_last=False)
    stream.check(began_s + 9, PATIENCE)
    before = list(played.ends)
    stream.check(stream._since_s + 11, PATIENCE)

    assert (before, played.ends) == ([], [408])


def test_a_stream_on_which_nothing_comes_is_ended(stream, played):
    began_s = stream._since_s
    stream.check(began_s + 99, PATIENCE)
    before = list(played.ends)
    stream.check(began_s + 101, PATIENCE)

    assert (before, played.ends) == ([], [408])


def test_a_stream_whose_requests_run_is_not_idle(stream, played):
    send(stream, b"a")
    stream.check(stream._since_s + 1000, PATIENCE)

    assert played.ends == []


def test_a_server_that_stops_ends_streams_when_they_have_their_answers(stream, played):
    send(stream, b"a")
    played.is_draining = True
    stream.check(stream._since_s, PATIENCE)
    before = list(played.ends)
    played.answer(played.calls[0])
    stream.check(stream._since_s, PATIENCE)

    assert (before, played.told, played.ends) == ([], ["a"], [503])


@settings(max_examples=200)
@given(st.lists(st.binary(max_size=60), max_size=20))
def test_no_garbage_raises(pieces):
    async def body():
        played = Played()
        played.answers_at_once = True
        stream = Stream(played, played, 1, CallHead())
        for piece in pieces:
            stream.add(piece, is_last=False)
        stream.add(b"", is_last=True)

    asyncio.run(body())
