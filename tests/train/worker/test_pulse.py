from queue import Queue

import pytest
import torch

from shoal.train.group.solo import Solo
from shoal.train.worker.pulse import Pulse, WatchedGroup


@pytest.fixture
def beats():
    return Queue()


@pytest.fixture
def pulse(beats):
    pulse = Pulse(beats.put, every_s=0.01)
    yield pulse
    pulse.stop()


def next_of(beats, phase):
    while (beat := beats.get(timeout=10)).phase != phase:
        pass
    return beat


def test_it_tells_what_the_worker_is_at(pulse, beats):
    assert beats.get(timeout=10).phase == "warming"

    pulse.step = 7
    pulse.enter("computing")

    assert next_of(beats, "computing").step == 7


def test_a_phase_ends_with_its_block(pulse, beats):
    pulse.enter("computing")
    with pulse.phase("saving"):
        next_of(beats, "saving")

    assert next_of(beats, "computing")


def test_stopped_it_is_silent(beats):
    pulse = Pulse(beats.put, every_s=0.01)
    pulse.stop()
    while not beats.empty():
        beats.get()

    assert beats.empty()


class Slow(Solo):
    """A group that hands control to the test while its member waits."""

    def __init__(self, look):
        super().__init__()
        self.look = look

    def share(self, data):
        self.look()
        return super().share(data)


def test_waiting_for_others_shows(pulse, beats):
    pulse.enter("computing")
    group = WatchedGroup(Slow(lambda: next_of(beats, "waiting")), pulse)

    assert group.share(b"x") == [b"x"]

    assert next_of(beats, "computing")


def test_a_watched_group_does_what_the_group_does(pulse):
    group = WatchedGroup(Solo(), pulse)
    data = torch.arange(3, dtype=torch.uint8)
    group.memory(64)[:3] = data

    total, notes = group.combine(64, lambda *_: None, 5)

    assert (group.rank, group.size, notes) == (0, 1, [5])
    assert total[:3].tolist() == group.broadcast(data, 0).tolist() == [0, 1, 2]
    group.close()
