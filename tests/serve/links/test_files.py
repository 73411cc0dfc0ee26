import socket
import struct

import pytest

from shoal.base import CorruptError
from shoal.serve.links.files import (
    QUESTIONS,
    REPLIES,
    Absent,
    Ask,
    Content,
    Get,
    Part,
    Parts,
    hear,
    receive_exactly,
    tell,
)


@pytest.fixture
def pair():
    ours, theirs = socket.socketpair()
    yield ours, theirs
    ours.close()
    theirs.close()


@pytest.mark.parametrize("message", [Ask("/m.onnx"), Get("b3:00")])
def test_questions_arrive(pair, message):
    tell(pair[0], message)

    assert hear(pair[1], QUESTIONS) == message


@pytest.mark.parametrize(
    "message", [Parts([Part("a/b", 3, "b3:00")], is_folder=True), Absent("gone", "wait"), Content(5)]
)
def test_replies_arrive(pair, message):
    tell(pair[0], message)

    assert hear(pair[1], REPLIES) == message


def test_who_hangs_up_says_nothing_more(pair):
    pair[0].sendall(b"\x05\0\0\0ab")
    pair[0].close()

    assert hear(pair[1], QUESTIONS) is None
    assert receive_exactly(pair[1], 1) is None


@pytest.mark.parametrize("data", [struct.pack("<I", 1 << 31), b"\x02\0\0\0\xc1\xc1", b"GET / HTTP/1.1\r\n\r\n"])
def test_what_is_no_message_is_refused(pair, data):
    pair[0].sendall(data)

    with pytest.raises(CorruptError):
        hear(pair[1], QUESTIONS)
