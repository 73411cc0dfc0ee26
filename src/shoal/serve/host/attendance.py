"""Which processes of a server have not been heard of for too long, as its supervisor knows. Time is passed in."""

from collections.abc import Collection
from typing import TypeAlias

# Rank and process id: ids alone may be the same on two machines.
ReplicaId: TypeAlias = tuple[int, int]


class Attendance:
    """Every front must be heard of, and every replica must have said Hello to every front. Not for several threads."""

    def __init__(self, *, hello_s: float, pulse_s: float) -> None:
        """Begin with nobody.

        Args:
            hello_s: how long a replica may take to say Hello to a front, from when both were started.
            pulse_s: how long a front may say nothing, once it has said anything.
        """
        self._hello_s = hello_s
        self._pulse_s = pulse_s
        self._replicas: set[ReplicaId] = set()
        self._present: dict[int, set[ReplicaId]] = {}
        self._heard_s: dict[int, float] = {}
        # (front's rank, replica) -> since when that replica is expected there.
        self._missing: dict[tuple[int, ReplicaId], float] = {}

    def start_replica(self, replica: ReplicaId, now_s: float) -> None:
        """Expect a new replica."""
        self._replicas.add(replica)
        self._expect(now_s)

    def end_replica(self, replica: ReplicaId) -> None:
        """Expect a replica no more."""
        self._replicas.discard(replica)
        self._expect(0.0)

    def start_front(self, rank: int, now_s: float) -> None:
        """Expect a new front, and every replica there."""
        self._present[rank] = set()
        self._missing = {pair: since_s for pair, since_s in self._missing.items() if pair[0] != rank}
        # Before its first word it has as long as a replica.
        self._heard_s[rank] = now_s + max(0.0, self._hello_s - self._pulse_s)
        self._expect(now_s)

    def end_front(self, rank: int) -> None:
        """Expect a front no more."""
        self._present.pop(rank, None)
        self._heard_s.pop(rank, None)
        self._expect(0.0)

    def hear(self, rank: int, now_s: float) -> None:
        """A front has said something."""
        if rank in self._heard_s:
            self._heard_s[rank] = now_s

    def note_present(self, rank: int, replicas: Collection[ReplicaId], now_s: float) -> None:
        """A front has told which replicas have said Hello to it."""
        if rank in self._present:
            self._present[rank] = set(replicas)
            self._expect(now_s)

    def forgive(self, seconds: float) -> None:
        """Do not count seconds in which nobody listened here, as when this process was stopped."""
        self._missing = {pair: since_s + seconds for pair, since_s in self._missing.items()}
        self._heard_s = {rank: heard_s + seconds for rank, heard_s in self._heard_s.items()}

    def absent_replicas(self, now_s: float) -> set[ReplicaId]:
        """The replicas that some front has missed for too long."""
        silent = self.silent_fronts(now_s)
        # Whom a front has missed that does not tell anything is not known.
        return {
            replica
            for (rank, replica), since_s in self._missing.items()
            if rank not in silent and now_s - since_s > self._hello_s
        }

    def silent_fronts(self, now_s: float) -> set[int]:
        """Ranks of the fronts that have said nothing for too long."""
        return {rank for rank, heard_s in self._heard_s.items() if now_s - heard_s > self._pulse_s}

    def _expect(self, now_s: float) -> None:
        wanted = {(rank, each) for rank, present in self._present.items() for each in self._replicas - present}
        self._missing = {pair: self._missing.get(pair, now_s) for pair in wanted}
