"""The supervisor's watch over its processes: those that hang are killed, and there are as many replicas as needed."""

import logging
import threading
import time
from contextlib import suppress

from shoal.base import InputError, ShoalError
from shoal.runtime import Service
from shoal.serve.host.attendance import Attendance, ReplicaId
from shoal.serve.host.scaling import LoadWatch, decide
from shoal.serve.host.settings import ServeSettings
from shoal.serve.links.messages import EndReplica, FromFront, Pulse, Serving

_LOG = logging.getLogger(__name__)
# Silence of a front that is no mere slowness of the machine or its disk.
_PULSE_S = 30.0
_LOOK_S = 0.5


class Keeper:
    """Looks after the processes of one server, twice a second, in the thread that calls `run`. Any thread may tell it.

    Attributes:
        num_replicas: how many there should be now.
    """

    def __init__(self, settings: ServeSettings) -> None:
        self.num_replicas = max(1, settings.least_replicas)
        self._follows_load = settings.least_replicas < settings.most_replicas
        self._attendance = Attendance(
            hello_s=max(settings.start_s, settings.most_batch_s * settings.fronts), pulse_s=_PULSE_S
        )
        self._load = LoadWatch(
            least=settings.least_replicas,
            most=settings.most_replicas,
            target_s=settings.target_ms / 1000,
            sleep_after_s=settings.sleep_after_s,
        )
        # Guards what is told here; held for moments only.
        self._telling = threading.Lock()
        self._pulses: dict[int, Pulse] = {}
        # Replicas elsewhere that fronts found stuck.
        self._stuck: set[ReplicaId] = set()
        self._must_wake = False
        self._look = threading.Event()
        self._is_stopping = False

    def start_front(self, rank: int) -> None:
        """A front was started."""
        with self._telling:
            self._attendance.start_front(rank, time.monotonic())
        # It must hear from a replica what the models look like.
        self.wake()

    def end_front(self, rank: int) -> None:
        """A front is gone."""
        with self._telling:
            self._pulses.pop(rank, None)
            self._attendance.end_front(rank)

    def start_replica(self, rank: int, pid: int) -> None:
        """A replica was started."""
        with self._telling:
            self._attendance.start_replica((rank, pid), time.monotonic())

    def end_replica(self, rank: int, pid: int) -> None:
        """A replica is gone."""
        with self._telling:
            self._attendance.end_replica((rank, pid))

    def hear(self, rank: int, message: FromFront) -> None:
        """A front has said something."""
        with self._telling:
            self._attendance.hear(rank, time.monotonic())
            if isinstance(message, Serving):
                self._attendance.note_present(rank, message.replicas, time.monotonic())
            elif isinstance(message, Pulse):
                self._pulses[rank] = message
                if message.num_open and not self.num_replicas:
                    self._look.set()
            elif isinstance(message, EndReplica):
                self._stuck.add((message.rank, message.pid))
                self._look.set()

    def wake(self) -> None:
        """Have at least one replica, whoever asks: a version is to be loaded."""
        with self._telling:
            self._must_wake = True
        self._look.set()

    def run(self, fronts: Service, replicas: Service) -> None:
        """Keep the processes until `stop`."""
        last_s = time.monotonic()
        while not self._is_stopping:
            self._look.wait(_LOOK_S)
            self._look.clear()
            now_s = time.monotonic()
            self._end_silent(fronts, replicas, now_s, now_s - last_s)
            if self._follows_load and not self._is_stopping:
                self._scale(replicas, now_s - last_s)
            last_s = now_s

    def stop(self) -> None:
        """Let `run` end."""
        self._is_stopping = True
        self._look.set()

    def _end_silent(self, fronts: Service, replicas: Service, now_s: float, passed_s: float) -> None:
        with self._telling:
            if passed_s > 2 * _LOOK_S:
                # This process was stopped or starved itself, and what the others said waits to be read.
                self._attendance.forgive(passed_s)
            silent, absent = self._attendance.silent_fronts(now_s), self._attendance.absent_replicas(now_s)
            stuck, self._stuck = self._stuck, set()
        for front in [(rank, pid) for rank, pid in fronts.pids().items() if rank in silent]:
            _kill(fronts, "front", front, "says nothing any more")
        # By now another process may have the rank, and is no worse for it.
        for replica in stuck & set(replicas.pids().items()):
            _kill(replicas, "replica", replica, "is stuck, as a front says,")
        for replica in absent & set(replicas.pids().items()):
            _kill(replicas, "replica", replica, "does not say Hello")

    def _scale(self, replicas: Service, passed_s: float) -> None:
        with self._telling:
            state = self._load.look(self._pulses, self.num_replicas, passed_s)
            wanted = max(decide(state), 1 if self._must_wake else 0)
            self._must_wake = False
        change = wanted - self.num_replicas
        if not change:
            return
        _LOG.info("replicas: %d instead of %d, at %.0f%%", wanted, self.num_replicas, 100 * state.utilisation)
        try:
            if change > 0:
                replicas.add(change)
            else:
                replicas.remove(-change)
        except ShoalError as error:
            # The machine may have room later, and the next look tries again.
            _LOG.warning("cannot have %d replicas instead of %d: %s", wanted, self.num_replicas, error)
            return
        self.num_replicas = wanted
        self._load.note_change()


def _kill(service: Service, role: str, process: tuple[int, int], why: str) -> None:
    rank, pid = process
    _LOG.warning("%s %d with pid %d %s and is killed", role, rank, pid, why)
    # It was taken away just now, as the server shrinks.
    with suppress(InputError):
        service.kill(rank)
