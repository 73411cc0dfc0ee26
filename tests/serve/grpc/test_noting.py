import pytest

from shoal.serve.grpc.call import Call
from shoal.serve.grpc.head import CallHead
from shoal.serve.grpc.hpack import Decoder
from shoal.serve.grpc.noting import note

BACK = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


class Told:
    def __init__(self, back):
        self.back, self.heard = back, []

    def note(self, **told):
        self.heard.append(told)
        return self.back


@pytest.fixture
def call(make_passage):
    call = Call(None, 1, CallHead("/a/B", {b"traceparent": BACK}), started_s=7.0)
    call.add(b"\0\0\0\0\x04four", most_bytes=100)
    call.answered_status, call.ran = 200, make_passage().ran
    return call


def test_without_an_observer_nothing_is_told(call):
    assert note(None, call, "", 9) == b""


def test_an_observer_hears_of_a_call_and_its_word_is_a_header(call):
    told = Told(BACK)

    block = note(told, call, "10.0.0.7", 9)

    (heard,) = told.heard
    assert (heard["protocol"], heard["path"], heard["status"], heard["client"]) == ("grpc", "/a/B", 200, "10.0.0.7")
    assert (heard["num_bytes_in"], heard["num_bytes_out"], heard["started_s"]) == (4, 9, 7.0)
    assert heard["ran"] is call.ran
    assert Decoder(most_list_bytes=1000).decode(block) == [(b"traceparent", BACK)]


def test_who_is_told_nothing_back_has_no_header(call):
    assert note(Told(b""), call, "", 9) == b""
