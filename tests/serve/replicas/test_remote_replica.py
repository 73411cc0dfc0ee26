import threading

import numpy as np
import pytest

from shoal.serve.host.model_files import ModelFiles
from shoal.serve.links.channel import Done, Hello, Load, Loaded, LoadFailed, Work
from shoal.serve.links.inline import InlineReader, InlineTensors, encode_inline
from shoal.serve.links.proof import answer, new_token
from shoal.serve.replicas.remote_replica import run_remote_replica


class Front:
    """The other end of a replica's socket."""

    def __init__(self, connection):
        self.connection = connection
        self._reader = InlineReader()

    def send(self, frame, *tensors):
        outgoing = InlineTensors()
        _, slots = outgoing.write([[tensor] for tensor in tensors])
        if isinstance(frame, Work):
            frame = Work(frame.batch, frame.model, frame.version, "", slots)
        self.connection.sendall(b"".join(bytes(piece) for piece in encode_inline(frame, outgoing.take())))

    def receive(self):
        while True:
            num_bytes = self.connection.recv_into(self._reader.room())
            assert num_bytes
            if (arrival := self._reader.took(num_bytes)) is not None:
                return arrival


@pytest.fixture
def planned():
    return set()


@pytest.fixture
def front(member, listener, planned):
    """A front that a replica has come to."""
    token = new_token()
    files = ModelFiles("127.0.0.1", token, planned.__contains__)
    settings = {
        "address": "127.0.0.1",
        "ports": [listener.getsockname()[1]],
        "files_port": files.port,
        "token": token,
        "threads": 1,
    }
    thread = threading.Thread(target=run_remote_replica, args=(member,), kwargs=settings)
    thread.start()
    connection, _ = listener.accept()
    connection.settimeout(20)
    assert answer(connection, token)
    connection.settimeout(20)
    yield Front(connection)
    member.stop()
    thread.join()
    connection.close()
    files.close()


def test_it_says_who_and_where_it_is(front, member):
    hello = front.receive().frame

    assert (hello.rank, hello.host) == (member.rank, "127.0.0.1")
    assert isinstance(hello, Hello)


def test_it_runs_what_the_plan_names_under_the_name_that_the_plan_gives(front, scorer, planned):
    planned.add(str(scorer))
    front.receive()
    front.send(Load("m", "1", str(scorer)))
    loaded = front.receive().frame
    front.send(Work(7, "m", "1", "", []), np.ones((2, 2, 2), np.uint8))
    done, (scores,) = front.receive()

    assert isinstance(loaded, Loaded)
    assert loaded.path == str(scorer)
    assert isinstance(done, Done)
    np.testing.assert_allclose(scores.sum(axis=1), 1, rtol=1e-6)


def test_what_is_not_planned_is_not_loaded(front, scorer):
    front.receive()
    front.send(Load("m", "1", str(scorer)))

    failed = front.receive().frame

    assert isinstance(failed, LoadFailed)
    assert "not served any more" in failed.message
