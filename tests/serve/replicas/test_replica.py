import os
import socket
import threading

import numpy as np
import pytest

from shoal.serve.links.channel import (
    Done,
    Failed,
    FrameReader,
    Hello,
    IncomingTensors,
    Load,
    Loaded,
    LoadFailed,
    OutgoingTensors,
    Ping,
    Pong,
    Unload,
    Work,
    encode_frame,
)
from shoal.serve.replicas.loading import load_model
from shoal.serve.replicas.replica import Replica, run_replica
from shoal.serve.wire.interface import Interface


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
def load():
    """What the replica loads with; a test may put another in its place."""
    return load_model


@pytest.fixture
def attach(member, load):
    """Connects a replica to a new front in a slot; the one before it must be closed."""
    replica = Replica(member, load)
    waiting, fronts = ([], []), []
    doors = [lambda slot=slot: waiting[slot].pop() if waiting[slot] else None for slot in (0, 1)]
    thread = threading.Thread(target=replica.serve, args=(doors,))
    thread.start()

    def attach(slot=0):
        ours, theirs = socket.socketpair(socket.AF_UNIX)
        ours.settimeout(20)
        fronts.append(Front(ours))
        waiting[slot].append(theirs)
        assert fronts[-1].receive() == Hello(3, os.getpid())
        return fronts[-1]

    yield attach
    member.stop()
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


def test_it_waits_for_a_front_that_is_not_there_yet(member, tmp_path):
    place = str(tmp_path / "s")
    thread = threading.Thread(target=run_replica, args=(member,), kwargs={"socket_paths": [place], "threads": 1})
    thread.start()

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(place)
        listener.listen()
        connection, _ = listener.accept()
        front = Front(connection)
        hello = front.receive()
        member.stop()
        thread.join()
        front.close()

    assert hello == Hello(3, os.getpid())


def test_it_answers_a_ping(attach):
    front = attach()

    front.send(Ping())

    assert front.receive() == Pong()


def test_two_fronts_have_memory_of_their_own_and_their_own_answers(attach, scorer):
    first, second = attach(0), attach(1)
    for front in (first, second):
        front.send(Load("m", "1", str(scorer)))
        assert isinstance(front.receive(), Loaded)

    dark, bright = (np.full((1, 2, 2), value, np.uint8) for value in (0, 9))
    answers = [(front, front.work(1, image)) for front, image in ((first, dark), (second, bright))]

    scores = [front.incoming.read(done.block, done.slots)[0] for front, done in answers]
    assert scores[0].tolist() != scores[1].tolist()


def test_a_version_stays_while_one_front_wants_it(attach, scorer):
    first, second = attach(0), attach(1)
    for front in (first, second):
        front.send(Load("m", "1", str(scorer)))
        front.receive()

    first.send(Unload("m", "1"))
    first.send(Ping())
    first.receive()

    assert isinstance(second.work(1, np.ones((1, 2, 2), np.uint8)), Done)


def test_what_one_front_has_loaded_is_no_second_load_for_the_other(attach, scorer):
    first, second = attach(0), attach(1)
    first.send(Load("m", "1", str(scorer)))
    loaded = first.receive()

    second.send(Load("m", "1", str(scorer)))

    assert second.receive() == loaded


class Recording:
    """A model that notes what it runs, the first time after it was let."""

    def __init__(self, path, ran, let):
        self.path, self._ran, self._let = path, ran, let
        self.interface, self.timings, self.model_kind = Interface((), (), batched=True), [], "unknown"

    def run(self, inputs):
        assert self._let.wait(20)
        self._ran.append(int(inputs[0][0]))
        return [np.zeros(1, np.float32)]


class TestFairness:
    ran, let = [], threading.Event()

    @pytest.fixture
    def load(self):
        return lambda path: Recording(path, self.ran, self.let)

    def test_fronts_take_turns(self, attach):
        fronts = [attach(0), attach(1)]
        for front in fronts:
            front.send(Load("m", "1", "/1"))
            front.receive()

        # Both wait while the replica is at the first batch; from then on each sends as soon as it was answered.
        for number, front in enumerate(fronts):
            front.send(Work(0, "m", "1", *front.outgoing.write([[np.array([number])]])))
            front.send(Ping())
        self.let.set()
        for turn in range(1, 20):
            for number, front in enumerate(fronts):
                while not isinstance(front.receive(), Done):
                    """A Pong."""
                front.send(Work(turn, "m", "1", *front.outgoing.write([[np.array([number])]])))

        # Of any stretch, each front has its half, give or take the batch under way.
        assert all(1 <= sum(self.ran[start : start + 4]) <= 3 for start in range(len(self.ran) - 4))


class TestLoadingThatNeverEnds:
    let = threading.Event()

    @pytest.fixture
    def load(self):
        yield lambda path: load_model(path) if path != "/endless" else self.let.wait(20)
        self.let.set()

    def test_the_rest_goes_on(self, attach, scorer):
        front = attach()
        front.send(Load("m", "1", str(scorer)))
        front.receive()

        front.send(Load("m", "2", "/endless"))
        front.send(Ping())

        assert front.receive() == Pong()
        assert isinstance(front.work(1, np.ones((1, 2, 2), np.uint8)), Done)
        self.let.set()
