"""Where code runs: the interface that every runtime keeps, and the words it speaks.

A runtime starts members (processes that each run one entry) in three shapes: a gang lives and dies by its supervisor's
hand, a pool runs one function after another, a service keeps its members alive. The supervisor is the process that
asked; whatever the shape, its members never outlive it.
"""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import ParamSpec, Protocol, TypeAlias, TypeVar

from shoal.base import ConfigError, WorkerError
from shoal.runtime.code import Code
from shoal.runtime.frames import Message

P = ParamSpec("P")
R = TypeVar("R")

LOOPBACK = "127.0.0.1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """What one member needs of the machine that it is placed on: a request for room, not a limit on use."""

    cpus: float = 1
    memory_bytes: int | None = None
    gpus: float = 0

    def __post_init__(self) -> None:
        if self.cpus < 0 or self.gpus < 0 or (self.memory_bytes is not None and self.memory_bytes < 0):
            raise ConfigError(
                f"{self} asks for less than nothing",
                next_step="give cpus, gpus and memory_bytes of at least 0, or leave them out",
            )


@dataclass(frozen=True, slots=True)
class Member:
    """One process of a gang or a service: the `rank`-th (from 0) of those that play `role`."""

    role: str
    rank: int


@dataclass(frozen=True, slots=True)
class Started:
    """A member's process exists. Its entry has not run yet: a member that must warm up reports when it is ready.

    `host` is an address of the member's machine, equal for members that share its memory: the loopback's when that is
    the supervisor's own machine and no other plays a part.
    """

    member: Member
    pid: int
    host: str = LOOPBACK


@dataclass(frozen=True, slots=True)
class Report:
    """A member said something through `Context.report`."""

    member: Member
    message: Message


@dataclass(frozen=True, slots=True)
class Exited:
    """A member's process is gone; all of its reports came before.

    Exactly one of `exit_code` and `signal` is set; a member that was lost with its machine counts as killed. `failure`
    is None when the entry returned, or when the member ended without an error of its own after its supervisor had asked
    it to stop.
    """

    member: Member
    pid: int
    exit_code: int | None
    signal: int | None
    failure: WorkerError | None


Event: TypeAlias = Started | Report | Exited


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """How long a service waits before it starts a dead member again: longer after every failure in a row."""

    initial_s: float = 0.1
    factor: float = 2.0
    maximum_s: float = 30.0
    healthy_after_s: float = 10.0

    def __post_init__(self) -> None:
        if self.initial_s < 0 or self.factor < 1 or self.maximum_s < self.initial_s or self.healthy_after_s < 0:
            raise ConfigError(
                f"{self} is not a back-off",
                next_step="give 0 <= initial_s <= maximum_s, factor >= 1 and healthy_after_s >= 0",
            )

    def failures_after(self, failures: int, lived_s: float) -> int:
        """Failures in a row, counting the death of a member that lived `lived_s` after `failures` failures.

        >>> Backoff(healthy_after_s=10).failures_after(4, lived_s=3600)
        1
        """
        return 1 if lived_s >= self.healthy_after_s else failures + 1

    def delay_s(self, failures: int) -> float:
        """Seconds to wait after the given number of failures in a row, at least 1.

        >>> [Backoff(initial_s=0.5, factor=2, maximum_s=3).delay_s(n) for n in (1, 2, 3, 4)]
        [0.5, 1.0, 2.0, 3.0]
        """
        try:
            return min(float(self.maximum_s), self.initial_s * self.factor ** (failures - 1))
        except OverflowError:
            # The power of a float, long before the count of failures is absurd.
            return self.maximum_s if self.initial_s else 0.0


class Gang(Protocol):
    """Members that were started together. Any thread may call any method; each event goes to one caller only."""

    @property
    def pids(self) -> Mapping[Member, int]:
        """Process ids of the members that still run."""
        ...

    def events(self, timeout_s: float | None = None) -> Iterator[Started | Report | Exited]:
        """What happens to the members, in order for each member, and a death as soon as it is seen.

        Ends when every member has exited and all was told, or when nothing happened for `timeout_s` (call it again to
        go on; `is_over` tells the two apart). A supervisor that does not read slows down members that report; a death
        is never lost.
        """
        ...

    @property
    def is_over(self) -> bool:
        """Whether every member has exited and every event was taken."""
        ...

    def send(self, member: Member, message: Message) -> None:
        """Hand a message to a member, in the order of the calls; lost if the member is dead, as its `Exited` tells.

        Raises:
            InputError: no such member, or a message that cannot travel.
        """
        ...

    def add(self, role: str, num: int = 1) -> list[Member]:
        """Start `num` more members of a role, with its code and needs, or none of them; a gang that was over goes on.

        Their ranks follow the highest that the role ever had: a dead member's rank is not used again. Their world size
        counts all that the role ever had; that of older members stays. Returns at once: where a member must wait for
        room, its `Started` comes later.

        Raises:
            InputError: no such role, or the gang was stopped.
            WorkerError: a member could not be started.
            UnsupportedError: the runtime's processes are given, as those of a job of another launcher are.
        """
        ...

    def kill(self, member: Member) -> None:
        """End a member at once (SIGKILL), with what it has started; nothing happens if it is dead.

        Its `Exited` comes as for any death.

        Raises:
            InputError: no such member.
        """
        ...

    def stop(self, grace_s: float = 5.0) -> None:
        """Return when every member is gone: SIGTERM, then SIGKILL for those still there after `grace_s`. Idempotent."""
        ...

    def __enter__(self) -> "Gang": ...

    def __exit__(self, *exception: object) -> None:
        """Stop the gang."""
        ...


class Pool(Protocol):
    """Processes that run functions for this one. Any thread may submit."""

    def submit(self, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> "Future[R]":
        """Run a function in some worker, once; the future holds what it returns.

        Function, arguments and result travel by value between these processes and nowhere else. A function that raises,
        or a worker that dies under it, fails this future alone with `WorkerError` (the function's own exception is its
        `__cause__`); it is not tried again, as it may have had effects, and a dead worker is replaced.
        """
        ...

    def close(self, *, cancel: bool = False) -> None:
        """Return when all is done and every worker gone; `cancel` drops what waits and stops what runs. Idempotent."""
        ...

    def __enter__(self) -> "Pool": ...

    def __exit__(self, *exception: object) -> None:
        """Close the pool; if the block failed, cancel what is left."""
        ...


class Service(Protocol):
    """Members that are kept alive. Any thread may call any method; each event goes to one caller only."""

    @property
    def restarts(self) -> int:
        """How many dead members have been started again."""
        ...

    def pids(self) -> Mapping[int, int]:
        """Process id of each rank that runs now."""
        ...

    def events(self, timeout_s: float | None = None) -> Iterator[Started | Report | Exited]:
        """As `Gang.events`; a member that is started again is told by a new `Started` with the same member."""
        ...

    @property
    def is_over(self) -> bool:
        """Whether the service was stopped, every member has exited and every event was taken."""
        ...

    def send(self, rank: int, message: Message) -> None:
        """Hand a message to the member that now has this rank.

        It is lost if that member is dead: what a new one must know is sent again when its `Started` comes.

        Raises:
            InputError: no such rank, or a message that cannot travel.
        """
        ...

    def add(self, num: int = 1) -> None:
        """Start `num` more members, with the ranks that follow."""
        ...

    def kill(self, rank: int) -> None:
        """End the member that now has this rank at once (SIGKILL); it is started again, as after any death.

        Raises:
            InputError: no such rank.
        """
        ...

    def remove(self, num: int = 1, *, grace_s: float = 5.0) -> None:
        """Stop the `num` members of the highest ranks for good; returns when they are gone."""
        ...

    def stop(self, grace_s: float = 5.0) -> None:
        """Return when every member is gone and none will come back. Idempotent."""
        ...

    def __enter__(self) -> "Service": ...

    def __exit__(self, *exception: object) -> None:
        """Stop the service."""
        ...


class Runtime(Protocol):
    """Starts members somewhere. Their entry is called as `function(context, **config)` (see `Context`)."""

    @property
    def address(self) -> str:
        """An address of this machine that members reach."""
        ...

    def gang(
        self, roles: Mapping[str, tuple[Code, int, Resources]], *, environment: Mapping[str, str] | None = None
    ) -> Gang:
        """Start all members of all roles, or none: an entry, a count and a need for each role.

        Args:
            roles: what each role runs, how many members play it, and what each of them needs.
            environment: variables that the members see on top of this process's own.

        Raises:
            ConfigError: no member at all, or more than the runtime can ever place.
            WorkerError: a member could not be started; those that were have been killed.
        """
        ...

    def pool(
        self, size: int, resources: Resources | None = None, *, environment: Mapping[str, str] | None = None
    ) -> Pool:
        """A pool of at most `size` workers, each started when it is first needed."""
        ...

    def service(
        self,
        code: Code,
        replicas: int,
        resources: Resources | None = None,
        restart: Backoff | None = None,
        *,
        name: str = "replica",
        environment: Mapping[str, str] | None = None,
        waits: bool = True,
    ) -> Service:
        """Start `replicas` members of the role `name`, and start again each one that dies.

        Where members must find room first, this and the service's `add` return when they are there, or with
        `waits=False` at once.
        """
        ...
