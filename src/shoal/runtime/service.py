"""Members on this machine that are kept alive."""

import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Self

from shoal.base import Clock, InputError, SystemClock, WorkerError
from shoal.runtime.base import Backoff, Event, Member
from shoal.runtime.frames import Message
from shoal.runtime.group import Group
from shoal.runtime.process import Child
from shoal.runtime.running import Launch, Running, stop_all

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Replica:
    """What is known of one rank that should run."""

    started_at_s: float
    failures: int = 0
    comeback: threading.Timer | None = None


class LocalService:
    """Child processes of this one, unless told otherwise, each started again when it dies: a `Service`."""

    def __init__(
        self,
        pattern: Launch,
        replicas: int,
        restart: Backoff,
        *,
        start_process: Callable[[Launch], Running] = Child,
        clock: Clock | None = None,
    ) -> None:
        """Start the first members, or raise WorkerError and leave none.

        Args:
            pattern: what every member runs; its rank and world size are filled in.
            replicas: how many to start, at least 1.
            restart: when a dead member comes back.
            start_process: makes the process of one member.
            clock: measures how long a member lived.
        """
        self._pattern = pattern
        self._restart = restart
        self._clock = clock or SystemClock()
        self._lock = threading.Lock()
        self._replicas: dict[int, _Replica] = {}
        self._num_restarts = 0
        self._is_stopped = False
        self._group = Group(after_exit=self._plan_comeback, start_process=start_process)
        self.add(replicas)

    @property
    def restarts(self) -> int:
        """How many dead members have been started again."""
        return self._num_restarts

    @property
    def is_over(self) -> bool:
        """Whether the service was stopped and every event was taken."""
        return self._group.inbox.is_over

    def pids(self) -> Mapping[int, int]:
        """Process id of each rank that runs now."""
        return {child.member.rank: child.pid for child in self._group.children() if child.pid and not child.is_dead}

    def events(self, timeout_s: float | None = None) -> Iterator[Event]:
        """What happens to the members, as `Service.events` promises."""
        return self._group.inbox.take(timeout_s)

    def send(self, rank: int, message: Message) -> None:
        """Hand a message to a member, as `Service.send` promises."""
        self._group.send(self._member(rank), message)

    def add(self, num: int = 1) -> None:
        """Start `num` more members, with the ranks that follow; all of them, or WorkerError."""
        with self._lock:
            if self._is_stopped:
                raise InputError("cannot add to a service that was stopped", next_step="start a new service")
            first = max(self._replicas, default=-1) + 1
            ranks = range(first, first + num)
            now_s = self._clock.monotonic()
            # Known before they start: one that dies at once must find itself wanted.
            self._replicas.update((rank, _Replica(started_at_s=now_s)) for rank in ranks)
            try:
                self._group.start([self._launch(rank) for rank in ranks])
            except WorkerError:
                for rank in ranks:
                    del self._replicas[rank]
                raise

    def remove(self, num: int = 1, *, grace_s: float = 5.0) -> None:
        """Stop the `num` members of the highest ranks for good; returns when they are gone."""
        with self._lock:
            ranks = sorted(self._replicas)[max(0, len(self._replicas) - num) :]
            for rank in ranks:
                _cancel(self._replicas.pop(rank))
        leaving = {self._member(rank) for rank in ranks}
        stop_all([child for child in self._group.children() if child.member in leaving], grace_s)
        for member in leaving:
            self._group.forget(member)

    def kill(self, rank: int) -> None:
        """End a member at once, as `Service.kill` promises."""
        self._group.kill(self._member(rank))

    def stop(self, grace_s: float = 5.0) -> None:
        """Return when every member is gone and none will come back."""
        with self._lock:
            self._is_stopped = True
            for replica in self._replicas.values():
                _cancel(replica)
            self._replicas.clear()
        stop_all(self._group.children(), grace_s)
        self._group.inbox.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def _member(self, rank: int) -> Member:
        return Member(self._pattern.member.role, rank)

    def _launch(self, rank: int) -> Launch:
        return replace(self._pattern, member=self._member(rank), world_size=len(self._replicas))

    def _plan_comeback(self, child: Running) -> None:
        with self._lock:
            rank = child.member.rank
            replica = self._replicas.get(rank)
            if replica is None:
                return
            lived_s = self._clock.monotonic() - replica.started_at_s
            replica.failures = self._restart.failures_after(replica.failures, lived_s)
            self._schedule(rank, replica)

    def _schedule(self, rank: int, replica: _Replica) -> None:
        replica.comeback = threading.Timer(self._restart.delay_s(replica.failures), self._come_back, args=(rank,))
        replica.comeback.daemon = True
        replica.comeback.start()

    def _come_back(self, rank: int) -> None:
        with self._lock:
            replica = self._replicas.get(rank)
            if replica is None:
                return
            replica.comeback = None
            replica.started_at_s = self._clock.monotonic()
            try:
                self._group.start([self._launch(rank)])
                self._num_restarts += 1
            except WorkerError as error:
                # The machine may have room again later; nobody waits for this call who could be told.
                _log.warning("%s", error)
                replica.failures += 1
                self._schedule(rank, replica)


def _cancel(replica: _Replica) -> None:
    if replica.comeback is not None:
        replica.comeback.cancel()
