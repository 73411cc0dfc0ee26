"""When a service's members come back; that they do is in the contract."""

import logging

import pytest

from shoal.base import ManualClock, WorkerError
from shoal.runtime import Backoff, Code, Exited, Member, Started
from shoal.runtime import service as service_module
from shoal.runtime import starting as starting_module
from shoal.runtime.running import Launch
from shoal.runtime.service import LocalService
from shoal.testing import members

BACKOFF = Backoff(initial_s=1, factor=2, maximum_s=5, healthy_after_s=10)


class ManualTimer:
    """Runs when the test says so."""

    def __init__(self, delay_s, function, args):
        self.delay_s, self.function, self.args, self.is_cancelled = delay_s, function, args, False

    def start(self):
        pass

    def cancel(self):
        self.is_cancelled = True

    def fire(self):
        self.function(*self.args)


@pytest.fixture
def timers(monkeypatch):
    made = []

    def make(delay_s, function, args):
        made.append(ManualTimer(delay_s, function, args))
        return made[-1]

    monkeypatch.setattr(service_module.threading, "Timer", make)
    return made


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def service(clock, timers):
    pattern = Launch(
        member=Member("replica", 0), code=Code.of(members.echo), world_size=1, environment={}, log_folder=None
    )
    with LocalService(pattern, 1, BACKOFF, clock=clock) as service:
        yield service


def kill(service, rank=0):
    (child,) = [child for child in service._group.children() if child.member.rank == rank]
    child.kill()
    child.wait()


def test_each_failure_in_a_row_waits_longer(service, timers):
    for _ in range(5):
        kill(service)
        timers[-1].fire()

    assert [timer.delay_s for timer in timers] == [1, 2, 4, 5, 5]
    assert service.restarts == 5


def test_a_member_that_lived_well_comes_back_quickly(service, timers, clock):
    for lived_s in (0, 0, 10, 0):
        clock.advance(lived_s)
        kill(service)
        timers[-1].fire()

    assert [timer.delay_s for timer in timers] == [1, 2, 1, 2]


def test_nothing_comes_back_after_the_stop(service, timers):
    kill(service)
    service.stop()

    timers[-1].fire()

    assert timers[-1].is_cancelled
    assert service.pids() == {}
    assert service.restarts == 0
    assert [type(event) for event in service.events()] == [Started, Exited]


def test_a_removed_member_does_not_come_back(service, timers):
    service.add(1)
    kill(service, rank=1)
    service.remove(1)

    timers[-1].fire()

    assert timers[-1].is_cancelled
    assert list(service.pids()) == [0]


def test_a_restart_that_fails_is_tried_again_later(service, timers, monkeypatch, caplog):
    kill(service)
    with monkeypatch.context() as patch:
        patch.setattr(starting_module, "spawn", _refuse)
        with caplog.at_level(logging.WARNING):
            timers[-1].fire()

    timers[-1].fire()

    assert "cannot start replica 0" in caplog.text
    assert [timer.delay_s for timer in timers] == [1, 2]
    assert list(service.pids()) == [0]


def test_members_that_cannot_be_added_leave_the_service_as_it_was(service, monkeypatch):
    monkeypatch.setattr(starting_module, "spawn", _refuse)

    with pytest.raises(WorkerError, match="cannot start"):
        service.add(2)

    monkeypatch.undo()
    service.add(1)
    assert sorted(service.pids()) == [0, 1]


def test_removing_more_than_there_are_removes_all(service):
    service.remove(5)

    assert service.pids() == {}


def _refuse(request):
    raise OSError("no room")
