import os
import socket
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shoal.base import InputError
from shoal.runtime.frames import MESSAGE, RAW, Channel, decode_message, encode_message, read_frame, write_frame

JSON_LIKE = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@pytest.fixture
def ends():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


@settings(deadline=None, max_examples=40)
@given(JSON_LIKE.filter(lambda message: message is not None))
def test_a_message_arrives_as_it_was_sent(message):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        write_frame(ours.fileno(), *encode_message(message))

        assert decode_message(*read_frame(theirs.fileno())) == message


@pytest.mark.parametrize("num_bytes", [0, 1, 2**20 - 1, 2**20, 2**20 + 1, 5_000_001])
def test_a_frame_larger_than_every_buffer_arrives_whole(ends, num_bytes):
    body = os.urandom(num_bytes)
    writer = threading.Thread(target=write_frame, args=(ends[0].fileno(), RAW, body))
    writer.start()

    frame = read_frame(ends[1].fileno())
    writer.join()

    assert frame == (RAW, body)


@pytest.mark.parametrize("kept", [0, 1, 8, 9, 12])
def test_a_torn_frame_is_the_end(ends, kept):
    whole = bytes([MESSAGE]) + (4).to_bytes(8, "little") + b"abcd"
    ends[0].send(whole[:kept])
    ends[0].close()

    assert read_frame(ends[1].fileno()) is None


def test_what_was_written_before_a_death_is_read_though_our_words_were_not(ends):
    write_frame(ends[0].fileno(), RAW, b"last words")
    write_frame(ends[1].fileno(), RAW, b"never read")
    ends[0].close()

    assert read_frame(ends[1].fileno()) == (RAW, b"last words")
    assert read_frame(ends[1].fileno()) is None


def test_writing_to_nobody_is_an_error(ends):
    ends[1].close()

    with pytest.raises(OSError, match="Broken pipe"):
        write_frame(ends[0].fileno(), RAW, b"x")


def test_threads_that_write_at_once_do_not_mix_their_frames(ends):
    channel = Channel(ends[0].fileno())
    writers = [
        threading.Thread(target=lambda body=bytes([letter]) * 300_000: [channel.write(RAW, body) for _ in range(5)])
        for letter in b"abcd"
    ]
    for writer in writers:
        writer.start()

    bodies = [read_frame(ends[1].fileno())[1] for _ in range(20)]
    for writer in writers:
        writer.join()

    assert all(body == body[:1] * 300_000 for body in bodies)


@pytest.mark.parametrize("view", [np.arange(12).reshape(3, 4), np.arange(12)[::3], np.empty((0, 4))])
def test_a_view_of_any_shape_travels_as_its_bytes(ends, view):
    write_frame(ends[0].fileno(), *encode_message(view.data))

    assert read_frame(ends[1].fileno()) == (RAW, view.tobytes())


@pytest.mark.parametrize("message", [None, object(), {"a": {1j}}, 2**70])
def test_what_cannot_be_encoded_is_refused(message):
    with pytest.raises(InputError, match="cannot send a message"):
        encode_message(message)
