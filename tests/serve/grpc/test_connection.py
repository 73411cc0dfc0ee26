import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2 as pb

from shoal.serve.desk.connection import Patience
from shoal.serve.grpc import frames
from shoal.serve.grpc.connection import GrpcConnection
from shoal.serve.wire.refusal import wrong_field

PATIENCE = Patience(request_s=10, idle_s=100, reader_s=20)


class FakeService:
    """Answers when the test says so."""

    most_body_bytes = 1 << 20
    observer = None

    def __init__(self):
        self.is_draining = False
        self.calls, self.statuses, self.connections = [], [], set()
        self.fails_with = None

    def admit(self, head):
        if head.path == "/refused":
            raise wrong_field("path", found="/refused", expected="another")
        return head.path == "/a/Stream"

    def admit_message(self, head, num_bytes):
        if head.path == "/refused/message":
            raise wrong_field("message", found=num_bytes, expected="fewer")

    def take(self, call, data, start):
        if self.fails_with is not None:
            raise self.fails_with
        self.calls.append((call, data[start:]))

    def count(self, status):
        self.statuses.append(int(status))

    def opened(self, connection):
        self.connections.add(connection)

    def closed(self, connection):
        self.connections.discard(connection)


class FakeTransport:
    def __init__(self):
        self.written, self.is_reading, self.end = b"", True, None

    def write(self, data):
        assert self.end is None
        self.written += data

    def pause_reading(self):
        self.is_reading = False

    def resume_reading(self):
        self.is_reading = True

    def is_closing(self):
        return self.end is not None

    def close(self):
        self.end = self.end or "closed"

    def abort(self):
        self.end = "aborted"


class Line:
    """A connection with both its ends; its time is the test's."""

    def __init__(self, peer):
        self.peer, self.service, self.transport = peer, FakeService(), FakeTransport()
        self.connection = GrpcConnection(self.service, patience=PATIENCE)
        self.connection.connection_made(self.transport)
        self.began_s = self.connection._since_s

    def send(self, data):
        self.connection.data_received(data)

    def check(self, after_s):
        self.connection.check(self.began_s + after_s)

    def read(self):
        data, self.transport.written = self.transport.written, b""
        return self.peer.read(data)

    def statuses(self):
        """grpc-status by stream, of what was written since the last look."""
        return {
            stream: headers["grpc-status"]
            for kind, _, stream, headers in self.read()
            if kind == frames.HEADERS and "grpc-status" in headers
        }


def in_loop(test):
    """Run a test within an event loop, with a line."""

    def run(peer):
        async def body():
            await test(Line(peer))

        asyncio.run(body())

    run.__name__ = test.__name__
    return run


async def turn():
    await asyncio.sleep(0)
    await asyncio.sleep(0)


@in_loop
async def test_answers_leave_together_and_in_any_order(line):
    line.send(line.peer.hello() + b"".join(line.peer.call(stream, "/a/B", b"%d" % stream) for stream in (1, 3)))
    line.read()
    (first, one), (second, three) = line.service.calls
    second.give(b"answer 3")
    first.give(b"answer 1")
    nothing_yet = line.transport.written
    await turn()

    assert (one, three, nothing_yet) == (b"1", b"3", b"")
    found = line.read()
    assert [stream for kind, _, stream, _ in found if kind == frames.DATA] == [3, 1]
    assert next(payload for kind, _, _, payload in found if kind == frames.DATA) == b"\0\0\0\0\x08answer 3"
    assert line.service.statuses == [200, 200]


@in_loop
async def test_refusals_come_at_the_head_at_the_length_and_at_the_end(line):
    line.send(line.peer.hello() + line.peer.head(1, "/refused"))
    line.send(line.peer.head(3, "/refused/message") + frames.frame(frames.DATA, 0, 3, b"\0\0\0\0\x05a"))
    line.send(line.peer.head(5, "/a/B") + frames.frame(frames.DATA, 0, 5, b"\0\xff\0\0\0"))
    line.service.fails_with = wrong_field("x", found=1, expected="2")
    line.send(line.peer.call(7, "/a/B"))
    line.service.fails_with = RuntimeError("a bug")
    line.send(line.peer.call(9, "/a/B"))
    await turn()

    assert line.statuses() == {1: "3", 3: "3", 5: "8", 7: "3", 9: "13"}
    assert not line.connection.is_busy
    assert line.connection.buffered_bytes == 0


@in_loop
async def test_what_is_not_grpc_gets_a_plain_status(line):
    line.send(line.peer.hello() + line.peer.head(1, "/", content_type="text/html", flags=frames.END_STREAM))

    (headers,) = [headers for kind, _, _, headers in line.read() if kind == frames.HEADERS]
    assert headers[":status"] == "415"
    assert line.service.statuses == [415]


@in_loop
async def test_a_call_whose_client_has_gone_is_not_answered(line):
    line.send(line.peer.hello() + line.peer.call(1, "/a/B") + frames.rst_stream(1, frames.Code.CANCEL))
    line.read()
    line.service.calls[0][0].give(b"late")
    await turn()

    assert line.read() == []
    assert line.service.statuses == []


@in_loop
async def test_a_call_past_its_timeout_is_told_so_once(line):
    line.send(line.peer.hello() + line.peer.call(1, "/a/B", grpc_timeout="1u"))
    while not line.service.statuses:
        await asyncio.sleep(0.001)
    await turn()
    line.service.calls[0][0].give(b"late")
    await turn()

    assert line.statuses() == {1: "4"}
    assert line.service.statuses == [504]


@in_loop
async def test_a_message_that_does_not_end_is_given_up(line):
    line.send(line.peer.hello() + line.peer.head(1, "/a/B") + frames.frame(frames.DATA, 0, 1, b"\0\0\0\0\x05abc"))
    held = line.connection.buffered_bytes
    line.check(9)
    before = line.statuses()
    line.check(11)

    assert held == 8
    assert before == {}
    assert line.statuses() == {1: "4"}


@in_loop
async def test_a_client_that_does_not_introduce_itself_or_end_its_frame_is_left(line):
    line.send(b"PRI * HTTP")
    line.check(9)
    assert line.transport.end is None
    line.check(11)

    assert line.read()[-1][0] == frames.GOAWAY
    line.send(b"/2.0")


@in_loop
async def test_an_idle_connection_is_closed_with_a_word(line):
    line.send(line.peer.hello())
    line.check(99)
    assert line.transport.end is None
    line.check(101)

    assert line.read()[-1][0] == frames.GOAWAY
    assert line.transport.end == "closed"


@in_loop
async def test_a_busy_connection_is_not_idle(line):
    line.send(line.peer.hello() + line.peer.call(1, "/a/B"))
    line.check(1000)
    line.connection.close()

    assert line.transport.end is None


@in_loop
async def test_a_client_that_does_not_read_is_not_read_from_and_then_dropped(line):
    line.send(line.peer.hello())
    line.connection.pause_writing()
    assert not line.transport.is_reading
    line.connection.resume_writing()
    assert line.transport.is_reading

    line.connection.pause_writing()
    line.check(19)
    assert line.transport.end is None
    line.check(1000)

    assert line.transport.end == "aborted"


@in_loop
async def test_a_client_that_makes_no_room_for_its_answers_is_dropped(line):
    line.send(line.peer.hello({frames.INITIAL_WINDOW_SIZE: 1}) + line.peer.call(1, "/a/B"))
    line.service.calls[0][0].give(b"answer")
    await turn()
    line.check(1)
    line.send(frames.window_update(1, 1))
    line.check(20)
    line.check(39)
    assert line.transport.end is None
    line.check(41)

    assert line.transport.end == "aborted"


@in_loop
async def test_a_draining_server_says_so_and_answers_what_it_has(line):
    line.send(line.peer.hello() + line.peer.call(1, "/a/B"))
    line.service.is_draining = True
    line.check(1)
    line.service.calls[0][0].give(b"answer")
    await turn()
    found = line.read()
    line.connection.close()

    assert [kind for kind, *_ in found if kind == frames.GOAWAY] == [frames.GOAWAY]
    assert found[-1][3]["grpc-status"] == "0"
    assert line.transport.end == "closed"


@in_loop
async def test_a_client_that_has_sent_all_still_gets_its_answer(line):
    line.send(line.peer.hello() + line.peer.call(1, "/a/B"))
    stays = line.connection.eof_received()
    line.service.calls[0][0].give(b"answer")
    await turn()

    assert stays
    assert line.statuses() == {1: "0"}
    assert line.transport.end == "closed"
    assert not line.connection.eof_received()


@in_loop
async def test_a_lost_connection_drops_its_calls(line):
    line.send(line.peer.hello() + line.peer.call(1, "/a/B", grpc_timeout="10S") + line.peer.head(3, "/a/B"))
    line.connection.connection_lost(None)
    line.service.calls[0][0].give(b"answer")
    line.check(1000)
    line.connection.close()
    await turn()

    assert line.service.connections == set()
    assert not line.connection.is_busy
    assert line.connection.buffered_bytes == 0


@in_loop
async def test_a_broken_client_is_told_why_before_the_end(line):
    line.send(b"GET / HTTP/1.1\r\n\r\n")
    line.send(b"more")

    kind, _, _, payload = line.read()[-1]
    assert kind == frames.GOAWAY
    assert b"does not begin as HTTP/2 does" in payload


def messages_of(found, stream=1):
    """The messages of a streamed answer."""
    data = b"".join(payload for kind, _, number, payload in found if (kind, number) == (frames.DATA, stream))
    messages = []
    while data:
        size = 5 + int.from_bytes(data[1:5], "big")
        messages.append(pb.ModelStreamInferResponse.FromString(data[5:size]))
        data = data[size:]
    return messages


def answer(call, name):
    call.give(pb.ModelInferResponse(id=name).SerializeToString())


@in_loop
async def test_a_stream_is_answered_message_by_message(line):
    line.send(line.peer.hello() + line.peer.head(1, "/a/Stream") + line.peer.data(1, b"one", flags=0))
    await turn()
    begun = line.read()
    answer(line.service.calls[0][0], "first")
    await turn()
    first = line.read()
    line.send(line.peer.data(1, b"two"))
    answer(line.service.calls[1][0], "second")
    await turn()
    last = line.read()

    assert begun[-1][3][":status"] == "200"
    assert [each.infer_response.id for each in messages_of(first)] == ["first"]
    assert [each.infer_response.id for each in messages_of(last)] == ["second"]
    assert last[-1][3] == {"grpc-status": "0"}
    assert line.service.statuses == [200, 200]
    assert not line.connection.is_busy


@in_loop
async def test_a_stream_may_be_refused_at_its_head_or_ended_later(line):
    line.send(line.peer.hello() + line.peer.head(1, "/refused") + line.peer.head(3, "/a/Stream"))
    line.send(frames.frame(frames.DATA, 0, 3, b"\0\xff\0\0\0"))
    await turn()

    assert line.statuses() == {1: "3", 3: "8"}
    assert line.service.statuses == [400, 413]
    assert not line.connection.is_busy


@in_loop
async def test_a_stream_past_its_timeout_is_told_so(line):
    head = line.peer.head(1, "/a/Stream", grpc_timeout="1u")
    line.send(line.peer.hello() + head + line.peer.data(1, b"one", flags=0))
    while not line.service.statuses:
        await asyncio.sleep(0.001)
    await turn()
    answer(line.service.calls[0][0], "late")
    await turn()
    found = line.read()

    assert messages_of(found) == []
    assert found[-2][3]["grpc-status"] == "4"
    assert line.service.statuses == [504]


@in_loop
async def test_a_message_that_does_not_end_and_an_idle_stream_are_given_up(line):
    line.send(line.peer.hello() + line.peer.head(1, "/a/Stream") + frames.frame(frames.DATA, 0, 1, b"\0\0\0\0\x05abc"))
    line.send(line.peer.head(3, "/a/Stream"))
    held = line.connection.buffered_bytes
    line.check(11)
    soon = line.statuses()
    line.check(101)

    assert held == 8
    assert soon == {1: "4"}
    assert line.statuses() == {3: "4"}


@in_loop
async def test_a_stream_that_is_cancelled_or_lost_is_not_answered(line):
    line.send(line.peer.hello() + b"".join(line.peer.head(stream, "/a/Stream") for stream in (1, 3)))
    line.send(b"".join(line.peer.data(stream, b"one", flags=0) for stream in (1, 3)))
    line.send(frames.rst_stream(1, frames.Code.CANCEL))
    line.connection.connection_lost(None)
    for call, _ in line.service.calls:
        answer(call, "late")
    await turn()

    assert line.service.statuses == []
    assert line.connection.buffered_bytes == 0


@in_loop
async def test_a_stream_whose_client_does_not_read_is_read_no_further(line):
    line.send(line.peer.hello() + line.peer.head(1, "/a/Stream"))
    line.connection.pause_writing()
    line.send(line.peer.data(1, b"one", flags=0))
    waiting = len(line.service.calls)
    line.connection.resume_writing()

    assert (waiting, len(line.service.calls)) == (0, 1)


@in_loop
async def test_a_stream_whose_client_makes_no_room_is_dropped(line):
    line.send(line.peer.hello({frames.INITIAL_WINDOW_SIZE: 1}) + line.peer.head(1, "/a/Stream"))
    line.send(line.peer.data(1, b"one", flags=0) + line.peer.data(1, b"two", flags=0))
    answer(line.service.calls[0][0], "first")
    await turn()
    line.check(1)
    line.check(20)
    assert line.transport.end is None
    line.check(41)

    assert line.transport.end == "aborted"


@in_loop
async def test_a_stream_that_waits_for_room_goes_on_when_there_is_some(line):
    line.send(line.peer.hello({frames.INITIAL_WINDOW_SIZE: 1}) + line.peer.head(1, "/a/Stream"))
    line.send(line.peer.data(1, b"one", flags=0))
    answer(line.service.calls[0][0], "first")
    line.send(line.peer.data(1, b"two"))
    waiting = len(line.service.calls)
    line.send(frames.window_update(1, 1000))
    answer(line.service.calls[1][0], "second")
    await turn()
    found = line.read()

    assert waiting == 1
    assert [each.infer_response.id for each in messages_of(found)] == ["first", "second"]
    assert found[-1][3] == {"grpc-status": "0"}


@in_loop
async def test_a_draining_server_ends_a_stream_that_asks_nothing(line):
    line.send(line.peer.hello() + line.peer.head(1, "/a/Stream"))
    line.service.is_draining = True
    line.check(1)

    assert line.statuses() == {1: "14"}
    assert not line.connection.is_busy


@settings(max_examples=100)
@given(st.lists(st.binary(max_size=100), max_size=10), st.booleans())
def test_no_garbage_raises(pieces, introduced):
    async def body():
        service = FakeService()
        connection = GrpcConnection(service, patience=PATIENCE)
        connection.connection_made(FakeTransport())
        if introduced:
            connection.data_received(frames.PREFACE + frames.settings({}))
        for piece in pieces:
            connection.data_received(piece)

    asyncio.run(body())


@pytest.mark.parametrize("cut", [1, 7, 100])
def test_calls_arrive_whole_however_they_were_cut(peer, cut):
    async def body():
        line = Line(peer)
        data = peer.hello() + b"".join(peer.call(2 * number + 1, "/a/B", b"m" * number * 50) for number in range(20))
        for at in range(0, len(data), cut):
            line.send(data[at : at + cut])
        return [message for _, message in line.service.calls]

    assert asyncio.run(body()) == [b"m" * number * 50 for number in range(20)]


class Told:
    """An observer that keeps what it hears, and gives back a place in a trace."""

    BACK = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

    def __init__(self):
        self.heard = []

    def note(self, **told):
        self.heard.append(told)
        return self.BACK


@in_loop
async def test_an_observer_hears_of_answers_and_refusals_and_their_heads_bear_its_word(line):
    told = line.service.observer = Told()
    line.send(line.peer.hello() + line.peer.call(1, "/a/B", b"four") + line.peer.call(3, "/refused", b""))
    ((call, _),) = line.service.calls
    call.give(b"answer")
    await turn()

    assert [(each["path"], each["status"]) for each in told.heard] == [("/refused", 400), ("/a/B", 200)]
    assert (told.heard[1]["num_bytes_in"], told.heard[1]["num_bytes_out"], told.heard[1]["protocol"]) == (4, 6, "grpc")
    heads = [headers for kind, _, _, headers in line.read() if kind == frames.HEADERS]
    assert [head["traceparent"] for head in heads if ":status" in head] == [Told.BACK.decode()] * 2
