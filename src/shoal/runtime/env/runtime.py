"""The runtime in a job that torchrun, Slurm or another launcher has started: `runtime="env"`.

Every process of the job makes the same call. Rank 0's process becomes the supervisor; each of the others calls it over
TCP and keeps one member for it, and rank 0 keeps one too. A member is a child process of its rank's process, not that
process itself: so it sees its environment before it loads anything, a crash of it ends nobody else, the launcher's
signals reach somebody who can answer them, and it is in every way the member that it would be at home. The cost is a
process that waits beside each member.

Whoever reaches rank 0's port and knows the job's name could pose as a rank, as with torch's own rendezvous: the job's
network must be trusted.
"""

import logging
import threading
from collections.abc import Callable, Mapping
from time import monotonic, sleep
from typing import Any, NoReturn, TypeVar

from shoal.base import ConfigError, InputError, UnsupportedError, WorkerError, launcher_variables
from shoal.runtime.base import Backoff, Member, Pool, Resources, Service
from shoal.runtime.code import Code
from shoal.runtime.env.gang import EnvGang
from shoal.runtime.env.hosting import EnvHost
from shoal.runtime.env.outcome import pack_outcome, unpack_outcome
from shoal.runtime.env.place import Place, place_in_job
from shoal.runtime.env.signals import Signals
from shoal.runtime.local import check_memory
from shoal.runtime.process import Child
from shoal.runtime.remote.child import RemoteChild
from shoal.runtime.remote.keeper import Keeper
from shoal.runtime.remote.line import FINISH, Line
from shoal.runtime.remote.reception import Reception, address_towards, call
from shoal.runtime.running import Launch, Running

R = TypeVar("R")

_log = logging.getLogger(__name__)

_TRY_AGAIN_S = 0.2
_PROGRESS_S = 10.0
# How long a rank that served before looks for rank 0, which listens all the time.
_GONE_S = 5.0
# How long rank 0 waits at the end for each rank to come for its outcome.
_PARTING_S = 10.0


class EnvRuntime:
    """One process's part in the job. `lead_or_serve` is for the main thread; gangs, in rank 0, for any."""

    def __init__(self, place: Place | None = None) -> None:
        """Find the place in the job; ConfigError where no launcher has given one."""
        self.place = place or place_in_job(launcher_variables())
        self._lock = threading.Lock()
        self._open_reception: Reception | None = None
        self._signals = Signals()
        self._has_served = False

    @property
    def address(self) -> str:
        """Rank 0's, which members are told as the master's."""
        return self.place.address

    @property
    def world_size(self) -> int:
        """How many members a gang can have."""
        return self.place.size

    def lead_or_serve(self, work: Callable[[], R]) -> R:
        """Return what `work` returns in rank 0's process, in every process of the job.

        Rank 0 does the work; the others serve its gangs until it is done, and are handed the outcome. SIGTERM or
        SIGUSR1 to any of them raises AskedToStopError, a KeyboardInterrupt, inside rank 0's work: as at a Ctrl-C, the
        gang is stopped and members have their grace.

        Raises:
            WorkerError: in the other ranks, whatever rank 0's work raised; or rank 0 is gone.
            AskedToStopError: the launcher wanted the job to stop.
        """
        with self._signals.caught():
            if self.place.rank == 0:
                return self._lead(work)
            outcome: R = self._serve()
            return outcome

    def gang(
        self, roles: Mapping[str, tuple[Code, int, Resources]], *, environment: Mapping[str, str] | None = None
    ) -> EnvGang:
        """Start all members, or none, as `Runtime.gang` promises, once their ranks have joined; in rank 0 alone."""
        if self.place.rank:
            raise InputError(
                f"rank {self.place.rank} cannot start a gang: rank 0 does", next_step="call lead_or_serve in all ranks"
            )
        total = sum(count for _, count, _ in roles.values())
        if not roles or any(count < 1 for _, count, _ in roles.values()):
            raise ConfigError("cannot start a gang of nobody", next_step="give each role at least one member")
        if total > self.place.size:
            raise ConfigError(
                f"cannot start {total} members: the job has {self.place.size} processes",
                next_step=f"ask for at most {self.place.size}, or let the launcher start more",
            )
        for _, _, resources in roles.values():
            check_memory([(resources, 1)])
        launches = [
            Launch(
                member=Member(role, rank), code=code, world_size=count, environment=environment or {}, log_folder=None
            )
            for role, (code, count, _) in roles.items()
            for rank in range(count)
        ]
        ranks = {launch.member: rank for rank, launch in enumerate(launches)}
        return EnvGang(launches, lambda launch: self._start(launch, ranks[launch.member]))

    def pool(
        self, size: int, resources: Resources | None = None, *, environment: Mapping[str, str] | None = None
    ) -> Pool:
        """Pools do not run in given processes: UnsupportedError."""
        _refuse(f"a pool of {size} ({resources}, environment {sorted(environment or {})})")

    def service(
        self,
        code: Code,
        replicas: int,
        resources: Resources | None = None,
        restart: Backoff | None = None,
        *,
        name: str = "replica",
        environment: Mapping[str, str] | None = None,
        waits: bool = True,  # noqa: ARG002  # there is no service to wait for
    ) -> Service:
        """Services do not run in given processes: UnsupportedError."""
        what = f"{replicas} x {name} ({code.qualname}, {resources}, {restart}, environment {sorted(environment or {})})"
        _refuse(f"a service of {what}")

    def close(self) -> None:
        """Take no more calls from other ranks."""
        with self._lock:
            if self._open_reception is not None:
                self._open_reception.close()

    def _start(self, launch: Launch, rank: int) -> Running:
        if rank == 0:
            return Child(launch, host=address_towards(self.place.address))
        return RemoteChild(launch, EnvHost(self._reception(), rank, self._signals.raise_in_main_thread))

    def _reception(self) -> Reception:
        with self._lock:
            if self._open_reception is None:
                self._open_reception = _listen(self.place)
            return self._open_reception

    def _lead(self, work: Callable[[], R]) -> R:
        reception = self._reception()
        try:
            result = work()
        except BaseException as error:
            self._part(reception, pack_outcome(None, error))
            raise
        self._part(reception, pack_outcome(result, None))
        return result

    def _part(self, reception: Reception, outcome: bytes) -> None:
        """Hand every other rank the outcome; one that does not come for it is gone."""
        lines: list[Line] = []
        deadline = monotonic() + _PARTING_S
        for rank in range(1, self.place.size):
            line = reception.wait(rank, max(0.0, deadline - monotonic()))
            if line is None:
                _log.warning("rank %d did not come for the outcome", rank)
                continue
            line.write(FINISH, outcome)
            lines.append(line)
        for line in lines:
            # Until it hangs up: our own end may be the last thing that this process does.
            while line.read() is not None:
                pass
            line.close()

    def _serve(self) -> Any:  # noqa: ANN401  # what rank 0's work returned
        while True:
            keeper = Keeper(self._call(), host=address_towards(self.place.address))
            with self._signals.told_to(keeper.ask_to_stop):
                outcome = keeper.serve()
            if outcome is not None:
                return unpack_outcome(outcome, self.place.rank)
            self._has_served = True

    def _call(self) -> Line:
        began = monotonic()
        said_at = began
        while True:
            for port in self.place.ports:
                try:
                    return call(self.place.address, port, self.place.token, self.place.rank)
                except OSError:
                    continue
            now = monotonic()
            if self._has_served and now - began > _GONE_S:
                raise WorkerError(
                    f"rank {self.place.rank} lost rank 0, the supervisor, on {self.place.address}",
                    next_step="see how rank 0 ended; then start the job again, and resume the run",
                    role="rank",
                    rank=self.place.rank,
                )
            if now - said_at > _PROGRESS_S:
                said_at = now
                _log.warning(
                    "rank %d waits for rank 0 on %s for %.0f s", self.place.rank, self.place.address, now - began
                )
            sleep(_TRY_AGAIN_S)


def _listen(place: Place) -> Reception:
    for address in (place.address, ""):
        for port in place.ports:
            try:
                return Reception(address, port, place.token)
            except OSError:
                continue
    raise ConfigError(
        f"rank 0 cannot listen: ports {place.ports[0]} to {place.ports[-1]} of {place.address} are taken",
        next_step="give the job another MASTER_PORT",
    )


def _refuse(what: str) -> NoReturn:
    raise UnsupportedError(
        f"given processes run gangs, and not {what}", next_step='use runtime="local" or "ray" for pools and services'
    )
