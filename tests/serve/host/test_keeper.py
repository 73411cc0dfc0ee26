import os
import signal
import time

import pytest

from shoal.base import WorkerError
from shoal.serve.host.keeper import Keeper
from shoal.serve.host.settings import ServeSettings
from shoal.serve.links.messages import EndReplica, Pulse, Serving


class Service:
    """Processes that are only written down."""

    def __init__(self, **pids):
        self._pids = {int(rank.removeprefix("r")): pid for rank, pid in pids.items()}
        self.changes = []
        self.failure = None

    def pids(self):
        return self._pids

    def kill(self, rank):
        os.kill(self._pids[rank], signal.SIGKILL)

    def add(self, num):
        if self.failure is not None:
            raise self.failure
        self.changes.append(num)

    def remove(self, num):
        self.changes.append(-num)


@pytest.fixture
def killed(monkeypatch):
    killed = []
    monkeypatch.setattr("os.kill", lambda pid, number: killed.append((pid, number)))
    return killed


def keeper(**settings):
    return Keeper(ServeSettings(start_s=10.0, most_batch_s=1.0, **settings))


def pulse(*, num_open=0, num_able=1, busy_s=0.0):
    return Pulse(busy_s, 0.0, num_open, num_able)


def look(found, fronts, replicas, *, after_s):
    """One look, as if so much time had passed since everything was told."""
    found._end_silent(fronts, replicas, time.monotonic() + after_s, 0.5)


def test_a_replica_that_says_no_hello_is_killed(killed):
    found = keeper()
    found.start_front(0)
    found.start_replica(0, 20)
    found.start_replica(1, 21)
    found.hear(0, Serving(1, {}, [], [(1, 21)]))

    look(found, Service(r0=10), Service(r0=20, r1=21), after_s=9.0)
    before = list(killed)
    look(found, Service(r0=10), Service(r0=20, r1=21), after_s=11.0)

    assert before == []
    assert killed == [(20, signal.SIGKILL)]


def test_a_silent_front_is_killed(killed):
    found = keeper()
    found.start_front(0)
    found.start_front(1)
    found.hear(1, pulse())

    look(found, Service(r0=10, r1=11), Service(), after_s=31.0)

    assert killed == [(10, signal.SIGKILL), (11, signal.SIGKILL)]


def test_a_replica_elsewhere_that_a_front_finds_stuck_is_killed_once(killed):
    found = keeper()
    found.hear(0, EndReplica(0, 20))
    found.hear(1, EndReplica(0, 20))

    look(found, Service(), Service(r0=20, r1=21), after_s=0.0)
    look(found, Service(), Service(r0=20, r1=21), after_s=0.0)

    assert killed == [(20, signal.SIGKILL)]


def test_the_successor_of_a_stuck_replica_is_left_alone(killed):
    found = keeper()
    found.hear(0, EndReplica(0, 20))

    look(found, Service(), Service(r0=22), after_s=0.0)

    assert killed == []


def test_replicas_of_one_process_id_on_two_machines_are_two(killed):
    found = keeper()
    found.start_front(0)
    found.start_replica(0, 20)
    found.start_replica(1, 20)
    found.hear(0, Serving(1, {}, [], [(1, 20)]))
    replicas = Service(r0=20, r1=20)
    ranks = []
    replicas.kill = ranks.append

    look(found, Service(r0=10), replicas, after_s=11.0)

    assert ranks == [0]


def test_who_is_gone_is_not_missed(killed):
    found = keeper()
    found.start_front(0)
    found.start_replica(0, 20)
    found.end_replica(0, 20)
    found.end_front(0)

    look(found, Service(r0=10), Service(r0=20), after_s=100.0)

    assert killed == []


def test_a_long_pause_of_the_supervisor_itself_kills_nobody(killed):
    found = keeper()
    found.start_front(0)
    found.start_replica(0, 20)

    found._end_silent(Service(r0=10), Service(r0=20), time.monotonic() + 100.0, 100.0)

    assert killed == []


def test_a_sleeping_server_is_woken_by_who_waits():
    found, replicas = keeper(replicas=(0, 2), sleep_after_s=1.0), Service()
    found.hear(0, pulse())

    found._scale(replicas, 5.0)
    found.hear(0, pulse(num_open=3, num_able=0))
    found._scale(replicas, 0.1)

    assert replicas.changes == [-1, 1]
    assert found.num_replicas == 1


def test_a_sleeping_server_is_woken_for_a_new_version():
    found, replicas = keeper(replicas=(0, 2), sleep_after_s=1.0), Service()
    found.hear(0, pulse())
    found._scale(replicas, 5.0)

    found.wake()
    found._scale(replicas, 0.1)

    assert replicas.changes == [-1, 1]


def test_what_cannot_be_started_is_tried_again(caplog):
    found, replicas = keeper(replicas=(1, 4)), Service()
    found.hear(0, pulse(num_open=9, busy_s=0.0))
    replicas.failure = WorkerError("no room", next_step="wait")
    for second in range(1, 12):
        if second == 10:
            replicas.failure = None
        found.hear(0, pulse(num_open=9, busy_s=10.0 * second))
        found._scale(replicas, 1.0)

    assert "cannot have 2 replicas instead of 1: no room" in caplog.text
    assert replicas.changes == [1]


def test_it_ends_when_it_is_told():
    found = keeper()
    found.stop()

    found.run(Service(), Service())
