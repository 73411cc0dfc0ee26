import os
import socket
import threading

import numpy as np
import pytest

from shoal.serve.channel import (
    Done,
    Failed,
    FrameReader,
    Hello,
    IncomingTensors,
    Load,
    Loaded,
    LoadFailed,
    OutgoingTensors,
    Unload,
    Work,
    encode_frame,
)
from shoal.serve.loading import load_model
from shoal.serve.replica import Replica, run_replica


class Context:
    """What the runtime gives to a member, without a supervisor."""

    rank = 3

    def __init__(self):
        self.stopping = threading.Event()
        self._ends = os.pipe()

    def fileno(self):
        return self._ends[0]

    def receive_nowait(self):
        return None

    def stop(self):
        self.stopping.set()
        os.write(self._ends[1], b"\0")

    def close(self):
        for end in self._ends:
            os.close(end)


class Front:
    """The other end of a replica's socket."""

    def __init__(self, connection):
        self._connection = connection
        self._reader = FrameReader()
        self._frames = []
        self.incoming, self.outgoing = IncomingTensors(), OutgoingTensors()

    def send(self, frame):
        self._connection.sendall(encode_frame(frame))

    def receive(self):
        while not self._frames:
            data = self._connection.recv(65536)
            assert data
            self._frames += self._reader.feed(data)
        return self._frames.pop(0)

    def work(self, number, *arrays, model="m", version="1"):
        self.send(Work(number, model, version, *self.outgoing.write([[array] for array in arrays])))
        return self.receive()

    def close(self):
        self.incoming.close()
        self.outgoing.close()
        self._connection.close()


@pytest.fixture
def context():
    context = Context()
    yield context
    context.close()


@pytest.fixture
def attach(context):
    """Connects a replica to a new front; the one before it must be closed."""
    replica = Replica(context, load_model)
    threads, fronts = [], []

    def attach():
        # A replica serves one front after another, never two at once.
        for thread in threads:
            thread.join()
        ours, theirs = socket.socketpair(socket.AF_UNIX)
        ours.settimeout(20)

        def serve():
            with theirs:
                replica.serve(theirs)

        threads.append(threading.Thread(target=serve))
        threads[-1].start()
        fronts.append(Front(ours))
        assert fronts[-1].receive() == Hello(3, os.getpid())
        return fronts[-1]

    yield attach
    context.stop()
    for thread in threads:
        thread.join()
    for front in fronts:
        front.close()
    replica.close()


def test_a_loaded_version_runs_batches(attach, scorer):
    front = attach()
    front.send(Load("m", "1", str(scorer)))
    loaded = front.receive()

    done = front.work(7, np.ones((2, 2, 2), np.uint8))

    assert isinstance(loaded, Loaded)
    assert isinstance(done, Done)
    assert done.batch == 7
    (scores,) = front.incoming.read(done.block, done.slots)
    np.testing.assert_allclose(scores.sum(axis=1), 1, rtol=1e-6)


def test_batches_run_while_another_version_loads(attach, scorer, other_scorer):
    front = attach()
    front.send(Load("m", "1", str(scorer)))
    front.receive()

    front.send(Load("m", "2", str(other_scorer)))
    front.send(Work(8, "m", "1", *front.outgoing.write([[np.ones((1, 2, 2), np.uint8)]])))

    assert {type(front.receive()), type(front.receive())} == {Done, Loaded}


def test_what_cannot_be_loaded_is_told_and_the_rest_goes_on(attach, scorer, tmp_path):
    front = attach()
    front.send(Load("m", "9", str(tmp_path / "absent.onnx")))
    failed = front.receive()
    front.send(Load("m", "1", str(scorer)))

    assert isinstance(failed, LoadFailed)
    assert "absent.onnx" in failed.message
    assert isinstance(front.receive(), Loaded)


def test_an_input_that_the_model_refuses_is_told_and_the_rest_goes_on(attach, picker):
    front = attach()
    front.send(Load("m", "1", str(picker)))
    front.receive()

    failed = front.work(1, np.array([99], np.int64))
    done = front.work(2, np.array([1], np.int64))

    assert isinstance(failed, Failed)
    assert failed.blames_input
    assert isinstance(done, Done)


def test_a_new_front_hears_at_once_what_is_loaded(attach, scorer):
    first = attach()
    first.send(Load("m", "1", str(scorer)))
    loaded = first.receive()
    first.close()

    second = attach()

    assert second.receive() == loaded
    assert isinstance(second.work(1, np.ones((1, 2, 2), np.uint8)), Done)


def test_an_unloaded_version_is_gone(attach, scorer):
    first = attach()
    first.send(Load("m", "1", str(scorer)))
    first.receive()
    first.send(Unload("m", "1"))
    first.send(Load("m", "2", str(scorer)))
    first.receive()
    first.close()

    assert attach().receive().version == "2"


def test_it_waits_for_a_front_that_is_not_there_yet(context, tmp_path):
    place = str(tmp_path / "s")
    thread = threading.Thread(target=run_replica, args=(context,), kwargs={"socket_path": place, "threads": 1})
    thread.start()

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(place)
        listener.listen()
        connection, _ = listener.accept()
        front = Front(connection)
        hello = front.receive()
        context.stop()
        thread.join()
        front.close()

    assert hello == Hello(3, os.getpid())
