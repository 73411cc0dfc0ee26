import pytest

from shoal.serve.grpc import frames
from shoal.serve.grpc.frames import BrokenError, BrokenStreamError, Code, FrameReader
from shoal.serve.grpc.outbox import Outbox


def taken(outbox):
    """(kind, stream, bytes or flags) of all that is to be written."""
    reader = FrameReader(max_frame_bytes=1 << 20)
    return [(kind, stream, payload) for kind, _, stream, payload in reader.feed(frames.PREFACE + outbox.take())]


def data_of(found, stream):
    return b"".join(payload for kind, number, payload in found if kind == frames.DATA and number == stream)


def test_a_small_answer_leaves_at_once():
    outbox = Outbox()

    outbox.answer(1, b"h", b"message", b"t")

    assert taken(outbox) == [(frames.HEADERS, 1, b"h"), (frames.DATA, 1, b"message"), (frames.HEADERS, 1, b"t")]
    assert not outbox.num_waiting
    assert outbox.take() == b""


def test_a_message_is_cut_into_frames_that_the_client_takes():
    outbox = Outbox()

    outbox.answer(1, b"h", b"m" * 40_000, b"t")

    found = taken(outbox)
    assert data_of(found, 1) == b"m" * 40_000
    assert max(len(payload) for _, _, payload in found) == frames.SMALLEST_MAX_FRAME


def test_the_stream_s_window_holds_a_message_back():
    outbox = Outbox()
    outbox.configure([(frames.INITIAL_WINDOW_SIZE, 10)])

    outbox.answer(1, b"h", b"m" * 25, b"t")
    first = taken(outbox)
    outbox.grant(1, 100)
    rest = taken(outbox)

    assert data_of(first, 1) == b"m" * 10
    assert outbox.num_waiting == 0
    assert rest == [(frames.DATA, 1, b"m" * 15), (frames.HEADERS, 1, b"t")]


def test_the_connection_s_window_is_shared_and_a_closed_stream_s_does_not_matter():
    outbox = Outbox()
    for stream in (1, 3):
        outbox.answer(stream, b"h", b"m" * 50_000, b"t")
    first = taken(outbox)

    outbox.grant(0, 1_000_000)
    both = first + taken(outbox)

    assert len(data_of(first, 1)) + len(data_of(first, 3)) == frames.DEFAULT_WINDOW
    assert (len(data_of(both, 1)), len(data_of(both, 3))) == (50_000, 50_000)


def test_a_smaller_first_window_is_taken_back_from_open_streams():
    outbox = Outbox()
    outbox.configure([(frames.INITIAL_WINDOW_SIZE, 10)])
    outbox.answer(1, b"h", b"m" * 25, b"t")
    outbox.configure([(frames.INITIAL_WINDOW_SIZE, 0)])
    taken(outbox)

    outbox.grant(1, 10)
    none = taken(outbox)
    outbox.grant(1, 5)

    # It owes ten, as much as was sent.
    assert none == []
    assert data_of(taken(outbox), 1) == b"m" * 5


def test_a_forgotten_stream_sends_nothing_more():
    outbox = Outbox()
    outbox.configure([(frames.INITIAL_WINDOW_SIZE, 10)])
    outbox.answer(1, b"h", b"m" * 25, b"t")
    taken(outbox)

    outbox.forget(1)
    outbox.configure([(frames.INITIAL_WINDOW_SIZE, 1000)])

    assert taken(outbox) == []
    assert not outbox.is_sending(1)


def test_an_empty_message_needs_no_window():
    outbox = Outbox()
    outbox.configure([(frames.INITIAL_WINDOW_SIZE, 0)])

    outbox.answer(1, b"h", b"", b"t")

    assert taken(outbox)[-1] == (frames.HEADERS, 1, b"t")


def test_windows_beyond_the_largest_are_refused():
    with pytest.raises(BrokenError) as broken:
        Outbox().grant(0, frames.LARGEST_WINDOW)
    with pytest.raises(BrokenStreamError) as stream:
        Outbox().grant(1, frames.LARGEST_WINDOW)
    grown = Outbox()
    grown.grant(1, 1)
    with pytest.raises(BrokenError) as settings:
        grown.configure([(frames.INITIAL_WINDOW_SIZE, frames.LARGEST_WINDOW)])

    assert {broken.value.code, stream.value.code, settings.value.code} == {Code.FLOW_CONTROL_ERROR}


def test_a_grant_of_nothing_is_an_error():
    with pytest.raises(BrokenError) as broken:
        Outbox().grant(0, 0)
    with pytest.raises(BrokenStreamError) as stream:
        Outbox().grant(1, 0)

    assert broken.value.code == stream.value.code == Code.PROTOCOL_ERROR


def test_an_answer_in_several_messages_keeps_its_order_and_window():
    outbox = Outbox()
    outbox.configure([(frames.INITIAL_WINDOW_SIZE, 10)])
    outbox.begin(1, b"h")
    for message in (b"a" * 8, b"b" * 8, b"c" * 8):
        outbox.send(1, message)
    outbox.finish(1, b"t")
    first = taken(outbox)
    held = outbox.is_sending(1)

    outbox.grant(1, 7)
    second = taken(outbox)
    outbox.grant(1, 7)
    third = taken(outbox)

    assert data_of(first, 1) == b"a" * 8 + b"b" * 2
    assert held
    assert data_of(second, 1) == b"b" * 6 + b"c"
    assert third == [(frames.DATA, 1, b"c" * 7), (frames.HEADERS, 1, b"t")]
    assert not outbox.is_sending(1)


def test_a_message_that_the_window_takes_does_not_wait_and_uses_it_up():
    outbox = Outbox()
    outbox.configure([(frames.INITIAL_WINDOW_SIZE, 10)])
    outbox.begin(1, b"h")
    outbox.send(1, b"12345")
    waits = outbox.is_sending(1)
    outbox.send(1, b"1234567")
    found = taken(outbox)

    assert not waits
    assert data_of(found, 1) == b"1234512345"
    outbox.forget(1)
    outbox.grant(1, 10)
    assert taken(outbox) == []
