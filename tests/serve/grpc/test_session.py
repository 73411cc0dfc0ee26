import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shoal.serve.grpc import frames
from shoal.serve.grpc import session as sessions
from shoal.serve.grpc.frames import Code
from shoal.serve.grpc.session import Session

INTRODUCED = frames.PREFACE + frames.settings({})


class Recorder:
    """Notes what it hears."""

    def __init__(self):
        self.heads, self.bodies, self.ended, self.resets = {}, {}, [], []

    def on_head(self, stream, head):
        self.heads[stream] = head

    def on_data(self, stream, data, *, is_last):
        self.bodies[stream] = self.bodies.get(stream, b"") + data
        if is_last:
            self.ended.append(stream)

    def on_reset(self, stream):
        self.resets.append(stream)


class Talk:
    """A session, its listener, and the client's end."""

    def __init__(self, peer):
        self.peer, self.heard = peer, Recorder()
        self.session = Session(self.heard)
        self.told = self.send(INTRODUCED)

    def send(self, data):
        self.session.feed(data)
        return self.peer.read(self.session.take())

    def goaway_after(self, data):
        found = self.send(data)
        assert self.session.is_over
        kind, _, _, payload = found[-1]
        assert kind == frames.GOAWAY
        return Code(int.from_bytes(payload[4:8], "big"))

    def reset_after(self, data):
        """(stream, code) of the one RST_STREAM that is the answer."""
        found = self.send(data)
        assert not self.session.is_over
        ((stream, payload),) = [(stream, payload) for kind, _, stream, payload in found if kind == frames.RST_STREAM]
        return stream, Code(int.from_bytes(payload, "big"))


@pytest.fixture
def talk(peer):
    return Talk(peer)


def test_the_server_introduces_itself_and_acknowledges(talk):
    kinds = [(kind, flags) for kind, flags, _, _ in talk.told]

    assert kinds == [(frames.SETTINGS, 0), (frames.WINDOW_UPDATE, 0), (frames.SETTINGS, frames.ACK)]


def test_a_call_comes_and_is_answered(talk):
    talk.send(talk.peer.head(1, "/a/B") + talk.peer.data(1, b"abc"))
    is_sent = talk.session.answer(1, b"\x88", b"message", b"\x88")

    assert talk.heard.heads[1].path == "/a/B"
    assert talk.heard.bodies[1] == b"\x00\x00\x00\x00\x03abc"
    assert talk.heard.ended == [1]
    assert is_sent
    assert [kind for kind, *_ in talk.send(b"")] == [frames.HEADERS, frames.DATA, frames.HEADERS]
    assert talk.session.num_streams == 0


def test_calls_cut_at_every_byte_arrive_whole(peer):
    talk = Talk(peer)
    data = b"".join(talk.peer.call(stream, "/a/B", b"m" * stream) for stream in (1, 3, 5))

    for at in range(len(data)):
        talk.send(data[at : at + 1])

    assert talk.heard.ended == [1, 3, 5]
    assert talk.heard.bodies[5].endswith(b"mmmmm")


def test_headers_in_pieces_with_padding_and_priority_are_read(talk):
    block = talk.peer.head(1, "/a/B")[9:]
    padded = b"\x03" + bytes(5) + block[:4] + bytes(3)
    data = (frames.frame(frames.HEADERS, frames.PADDED | frames.PRIORITIZED | frames.END_STREAM, 1, padded)
            + frames.frame(frames.CONTINUATION, 0, 1, block[4:8])
            + frames.frame(frames.CONTINUATION, frames.END_HEADERS, 1, block[8:]))  # fmt: skip

    talk.send(data)

    assert talk.heard.heads[1].path == "/a/B"
    assert talk.heard.ended == [1]


def test_trailers_end_a_call(talk):
    trailers = frames.frame(frames.HEADERS, frames.END_HEADERS | frames.END_STREAM, 1, b"")

    talk.send(talk.peer.head(1) + talk.peer.data(1, b"abc", flags=0) + trailers)

    assert talk.heard.ended == [1]


def test_trailers_that_do_not_end_reset_the_call(talk):
    talk.send(talk.peer.head(1))

    assert talk.reset_after(frames.frame(frames.HEADERS, frames.END_HEADERS, 1, b"")) == (1, Code.PROTOCOL_ERROR)
    assert talk.heard.resets == [1]


def test_a_ping_comes_back(talk):
    assert talk.send(frames.frame(frames.PING, 0, 0, b"12345678")) == [(frames.PING, frames.ACK, 0, b"12345678")]


def test_a_cancelled_call_is_off(talk):
    talk.send(talk.peer.call(1) + frames.rst_stream(1, Code.CANCEL))

    assert talk.heard.resets == [1]
    assert not talk.session.answer(1, b"", b"", b"")
    assert talk.session.take() == b""


def test_a_call_ended_early_lets_the_rest_of_it_pass(talk):
    talk.send(talk.peer.head(1))
    talk.session.end(1, b"\x88")
    found = talk.send(talk.peer.data(1, b"late") + talk.peer.call(3))

    assert [kind for kind, *_ in found] == [frames.HEADERS, frames.RST_STREAM]
    assert talk.heard.ended == [3]


def test_large_messages_get_new_windows(talk):
    talk.send(talk.peer.head(1))
    part = bytes(64 << 10)
    num_parts = sessions.CONNECTION_WINDOW // len(part) + 10

    granted = {0: 0, 1: 0}
    for _ in range(num_parts):
        for kind, _, stream, payload in talk.send(frames.frame(frames.DATA, 0, 1, part)):
            assert kind == frames.WINDOW_UPDATE
            granted[stream] += int.from_bytes(payload, "big")

    assert len(talk.heard.bodies[1]) == num_parts * len(part)
    assert min(granted.values()) > sessions.CONNECTION_WINDOW // 2


def test_a_call_beyond_the_limit_is_refused_so_that_it_may_be_tried_again(talk):
    for number in range(sessions.MOST_STREAMS):
        talk.send(talk.peer.head(2 * number + 1))
    stream = 2 * sessions.MOST_STREAMS + 1

    assert talk.reset_after(talk.peer.head(stream)) == (stream, Code.REFUSED_STREAM)
    assert talk.send(talk.peer.data(stream)) == []


def test_answers_that_nobody_makes_room_for_count_as_open(peer):
    talk = Talk(peer)
    talk.send(frames.settings({frames.INITIAL_WINDOW_SIZE: 0}))
    for number in range(sessions.MOST_STREAMS):
        talk.send(talk.peer.call(2 * number + 1))
        talk.session.answer(2 * number + 1, b"\x88", b"message", b"\x88")

    assert talk.reset_after(talk.peer.head(2 * sessions.MOST_STREAMS + 1))[1] == Code.REFUSED_STREAM


def test_a_malformed_request_resets_its_stream_alone(talk):
    assert talk.reset_after(talk.peer.head(1, connection="close")) == (1, Code.PROTOCOL_ERROR)
    talk.send(talk.peer.call(3))

    assert talk.heard.ended == [3]


def test_after_leaving_no_new_call_is_taken(talk):
    talk.send(talk.peer.head(1))
    talk.session.leave()
    found = talk.send(talk.peer.data(1) + talk.peer.call(3))

    assert [kind for kind, *_ in found] == [frames.GOAWAY]
    assert talk.heard.ended == [1]
    assert talk.session.answer(1, b"\x88", b"", b"\x88")


def broken(peer):
    """What ends a connection, with the code that says why."""
    head = peer.head(1)
    block = head[9:]
    frame = frames.frame
    return {
        "no preface": (None, b"GET / HTTP/1.1\r\n\r\n", Code.PROTOCOL_ERROR),
        "no settings": (None, frames.PREFACE + frame(frames.PING, 0, 0, bytes(8)), Code.PROTOCOL_ERROR),
        "too long": (b"", b"\xff\xff\xff" + bytes(6), Code.FRAME_SIZE_ERROR),
        "data on 0": (b"", frame(frames.DATA, 0, 0), Code.PROTOCOL_ERROR),
        "data before headers": (b"", frame(frames.DATA, 0, 1), Code.PROTOCOL_ERROR),
        "data after the end": (head + peer.data(1), peer.data(1), Code.STREAM_CLOSED),
        "headers after the end": (head + peer.data(1), head, Code.STREAM_CLOSED),
        "data after a reset": (head + frames.rst_stream(1, Code.CANCEL), peer.data(1), Code.STREAM_CLOSED),
        "even stream": (b"", frame(frames.HEADERS, frames.END_HEADERS, 2, block), Code.PROTOCOL_ERROR),
        "headers on 0": (b"", frame(frames.HEADERS, frames.END_HEADERS, 0, block), Code.PROTOCOL_ERROR),
        "wrong block": (b"", frame(frames.HEADERS, frames.END_HEADERS, 1, b"\x80"), Code.COMPRESSION_ERROR),
        "short priority": (
            b"", frame(frames.HEADERS, frames.END_HEADERS | frames.PRIORITIZED, 1, b"\0\0"), Code.FRAME_SIZE_ERROR),
        "padding": (b"", frame(frames.HEADERS, frames.END_HEADERS | frames.PADDED, 1, b"\x09"), Code.PROTOCOL_ERROR),
        "interrupted block": (frame(frames.HEADERS, 0, 1, block), frame(frames.PING, 0, 0, bytes(8)),
                              Code.PROTOCOL_ERROR),
        "other stream's block": (frame(frames.HEADERS, 0, 1, block), frame(frames.CONTINUATION, 4, 3),
                                 Code.PROTOCOL_ERROR),
        "continuation of nothing": (b"", frame(frames.CONTINUATION, 4, 1), Code.PROTOCOL_ERROR),
        "endless block": (frame(frames.HEADERS, 0, 1, block), frame(frames.CONTINUATION, 0, 1) * 40,
                          Code.ENHANCE_YOUR_CALM),
        "huge block": (frame(frames.HEADERS, 0, 1, block), frame(frames.CONTINUATION, 0, 1, bytes(40_000)),
                       Code.ENHANCE_YOUR_CALM),
        "priority on 0": (b"", frame(frames.PRIORITY, 0, 0, bytes(5)), Code.PROTOCOL_ERROR),
        "reset on 0": (b"", frames.rst_stream(0, Code.CANCEL), Code.PROTOCOL_ERROR),
        "reset before headers": (b"", frames.rst_stream(1, Code.CANCEL), Code.PROTOCOL_ERROR),
        "short reset": (head, frame(frames.RST_STREAM, 0, 1, b"123"), Code.FRAME_SIZE_ERROR),
        "settings on a stream": (b"", frame(frames.SETTINGS, 0, 1), Code.PROTOCOL_ERROR),
        "short settings": (b"", frame(frames.SETTINGS, 0, 0, b"1234"), Code.FRAME_SIZE_ERROR),
        "acknowledgement with settings": (b"", frame(frames.SETTINGS, 1, 0, bytes(6)), Code.FRAME_SIZE_ERROR),
        "window beyond all": (b"", frames.settings({frames.INITIAL_WINDOW_SIZE: 1 << 31}), Code.FLOW_CONTROL_ERROR),
        "push": (head, frame(frames.PUSH_PROMISE, 0, 1, bytes(4)), Code.PROTOCOL_ERROR),
        "ping on a stream": (b"", frame(frames.PING, 0, 1, bytes(8)), Code.PROTOCOL_ERROR),
        "short ping": (b"", frame(frames.PING, 0, 0, bytes(7)), Code.FRAME_SIZE_ERROR),
        "goaway on a stream": (b"", frame(frames.GOAWAY, 0, 1, bytes(8)), Code.PROTOCOL_ERROR),
        "short goaway": (b"", frame(frames.GOAWAY, 0, 0, bytes(7)), Code.FRAME_SIZE_ERROR),
        "window of nothing": (b"", frames.window_update(0, 0), Code.PROTOCOL_ERROR),
        "window overflow": (b"", frames.window_update(0, frames.LARGEST_WINDOW), Code.FLOW_CONTROL_ERROR),
        "window before headers": (b"", frames.window_update(1, 1), Code.PROTOCOL_ERROR),
        "short window": (b"", frame(frames.WINDOW_UPDATE, 0, 0, b"12"), Code.FRAME_SIZE_ERROR),
    }  # fmt: skip


def test_what_breaks_the_rules_ends_the_connection_with_the_right_code(peer):
    found = {}
    for name in broken(type(peer)()):
        own = type(peer)()
        before, data, _ = broken(own)[name]
        talk = Talk(own)
        if before is None:
            talk.session = Session(talk.heard)
            talk.session.take()
        else:
            talk.send(before)
        found[name] = talk.goaway_after(data)

    assert found == {name: code for name, (_, _, code) in broken(peer).items()}


def test_what_breaks_one_stream_leaves_the_others(talk):
    talk.send(talk.peer.head(1) + talk.peer.head(3))

    assert talk.reset_after(frames.window_update(1, 0)) == (1, Code.PROTOCOL_ERROR)
    assert talk.reset_after(frames.window_update(3, frames.LARGEST_WINDOW)) == (3, Code.FLOW_CONTROL_ERROR)
    assert talk.reset_after(frames.frame(frames.PRIORITY, 0, 5, b"1")) == (5, Code.FRAME_SIZE_ERROR)


def test_more_data_than_granted_ends_the_stream(peer):
    talk = Talk(peer)
    talk.send(talk.peer.head(1))
    talk.session._streams[1].window = 10

    assert talk.reset_after(frames.frame(frames.DATA, 0, 1, bytes(11))) == (1, Code.FLOW_CONTROL_ERROR)


@pytest.mark.parametrize("kind", ["reset", "ping", "settings", "empty data", "priority", "unknown"])
def test_frames_that_bring_nothing_are_not_taken_for_ever(talk, kind):
    talk.send(talk.peer.head(1))
    flood = {
        "reset": lambda stream: talk.peer.head(stream) + frames.rst_stream(stream, Code.CANCEL),
        "ping": lambda _: frames.frame(frames.PING, 0, 0, bytes(8)),
        "settings": lambda _: frames.settings({}),
        "empty data": lambda _: frames.frame(frames.DATA, 0, 1),
        "priority": lambda _: frames.frame(frames.PRIORITY, 0, 1, bytes(5)),
        "unknown": lambda _: frames.frame(0xFA, 0, 1),
    }[kind]

    found = []
    for number in range(3000):
        found += talk.send(flood(2 * number + 3))
        if talk.session.is_over:
            break

    assert talk.session.is_over
    assert int.from_bytes(found[-1][3][4:8], "big") == Code.ENHANCE_YOUR_CALM


def test_a_client_that_also_gets_answers_may_cancel_as_many_calls(talk):
    for number in range(3000):
        stream = 4 * number + 1
        talk.send(talk.peer.head(stream) + frames.rst_stream(stream, Code.CANCEL) + talk.peer.call(stream + 2))
        talk.session.answer(stream + 2, b"\x88", b"", b"\x88")

    assert not talk.session.is_over


def test_time_makes_up_for_pings(talk):
    for _ in range(20):
        for _ in range(200):
            talk.send(frames.frame(frames.PING, 0, 0, bytes(8)))
        talk.session.refill()

    assert not talk.session.is_over


def test_after_the_end_nothing_is_read(talk):
    talk.send(talk.peer.head(1))
    talk.goaway_after(frames.frame(frames.PING, 0, 0, b""))

    assert talk.heard.resets == [1]
    assert talk.send(talk.peer.call(3)) == []
    talk.session.fail(Code.NO_ERROR, "again")
    assert talk.session.take() == b""


KINDS = st.integers(0, 11)
GARBAGE = st.one_of(
    st.binary(max_size=200),
    st.builds(frames.frame, KINDS, st.integers(0, 255), st.integers(0, 7), st.binary(max_size=40)),
)


@settings(max_examples=300)
@given(st.lists(GARBAGE, max_size=20), st.booleans())
def test_no_garbage_raises(pieces, introduced):
    session = Session(Recorder())
    if introduced:
        session.feed(INTRODUCED)

    for piece in pieces:
        session.feed(piece)

    # Whatever came, what is written is frames; an end says why.
    reader = frames.FrameReader(max_frame_bytes=1 << 20)
    found = [kind for kind, *_ in reader.feed(frames.PREFACE + session.take())]
    assert (frames.GOAWAY in found) == session.is_over
    assert not reader.is_inside


def test_an_answer_in_several_messages_comes_between_the_requests(talk):
    talk.send(talk.peer.head(1) + talk.peer.data(1, b"one", flags=0))
    talk.session.outbox.begin(1, b"\x88")
    talk.session.send(1, b"first")
    found = talk.send(talk.peer.data(1, b"two"))
    talk.session.send(1, b"second")
    talk.session.finish(1, b"\x88")
    rest = talk.send(b"")

    assert [kind for kind, *_ in found] == [frames.HEADERS, frames.DATA]
    assert (rest[0][0], rest[0][3]) == (frames.DATA, b"second")
    assert rest[-1][:3] == (frames.HEADERS, frames.END_HEADERS | frames.END_STREAM, 1)
    assert talk.session.num_streams == 0


def test_an_answer_ended_before_its_client_ends_cuts_the_rest_off(talk):
    talk.send(talk.peer.head(1))
    talk.session.outbox.begin(1, b"\x88")
    talk.session.finish(1, b"\x88")
    found = talk.send(talk.peer.data(1, b"late"))

    assert [kind for kind, *_ in found] == [frames.HEADERS, frames.HEADERS, frames.RST_STREAM]
    assert int.from_bytes(found[-1][3], "big") == Code.NO_ERROR


def test_nothing_is_sent_on_a_call_that_is_off(talk):
    talk.send(talk.peer.head(1) + frames.rst_stream(1, Code.CANCEL))
    talk.session.send(1, b"late")
    talk.session.finish(1, b"\x88")
    talk.session.hold(1, is_held=True)

    assert talk.send(b"") == []


def test_a_client_that_is_held_gets_no_new_window_until_it_is_let_go(talk):
    talk.send(talk.peer.head(1))
    talk.session.hold(1, is_held=True)
    part = bytes(64 << 10)
    granted = []
    for _ in range(sessions.STREAM_WINDOW // len(part)):
        granted += talk.send(frames.frame(frames.DATA, 0, 1, part))
    beyond = talk.reset_after(frames.frame(frames.DATA, 0, 1, part))

    assert [stream for _, _, stream, _ in granted if stream] == []
    assert beyond == (1, Code.FLOW_CONTROL_ERROR)


def test_a_client_that_is_let_go_may_send_all_again(talk):
    talk.send(talk.peer.head(1))
    talk.session.hold(1, is_held=True)
    talk.send(b"".join(frames.frame(frames.DATA, 0, 1, bytes(64 << 10)) for _ in range(10)))
    talk.session.hold(1, is_held=False)

    ((kind, _, stream, payload),) = talk.send(b"")
    assert (kind, stream, int.from_bytes(payload, "big")) == (frames.WINDOW_UPDATE, 1, 640 << 10)
