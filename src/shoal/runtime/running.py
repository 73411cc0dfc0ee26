"""A member's process as its group sees it, wherever it runs."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any, Protocol

from shoal.runtime.base import Exited, Member
from shoal.runtime.code import Code
from shoal.runtime.frames import Message


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """What to start; `world_size` counts the members that its role has had."""

    member: Member
    code: Code
    world_size: int
    environment: Mapping[str, str]
    log_folder: Path | None


class Running(Protocol):
    """A process that was started, or will be once there is room. Any thread may call any method."""

    @property
    def member(self) -> Member:
        """Which member it is."""

    @property
    def pid(self) -> int:
        """Its process id, on its own machine; 0 before it exists."""

    @property
    def is_dead(self) -> bool:
        """Whether the process is gone; what it had reported may still come."""

    @property
    def is_ending(self) -> bool:
        """Whether its last reports are under way, and must not wait for room."""

    def boot(self) -> None:
        """Tell it what to run; called once, before anything is sent."""

    def attend(self, listener: "Listener") -> None:
        """Begin to listen; called once, after `boot`."""

    def discard(self) -> None:
        """End a process that nobody attends."""

    def send(self, message: Message) -> None:
        """Hand it a message; lost when it is dead. InputError for a message that cannot travel."""

    def terminate(self) -> None:
        """Ask it to stop (SIGTERM); its end will be in order, unless its entry raises."""

    def kill(self) -> None:
        """End it now, with the processes that it has started."""

    def wait(self, timeout_s: float | None = None) -> bool:
        """Return when it is gone, all was told and nothing of it is open here; False if `timeout_s` passed first."""


class Listener(Protocol):
    """Who is told of a process's life; called from threads of that process's own."""

    # The argument is the same object as the one that was attended, whose class the listener knows best.
    def started(self, child: Any, host: str) -> None:  # noqa: ANN401  # see above
        """Learn that the process exists, on the machine with this address."""

    def wait_for_room(self, child: Any) -> None:  # noqa: ANN401  # see above
        """Return when the next report may come; at once when the process is dead."""

    def reported(self, child: Any, message: Message) -> None:  # noqa: ANN401  # see above
        """Take a report, in order."""

    def died(self, child: Any) -> None:  # noqa: ANN401  # see above
        """Learn that the process is gone, or soon will be; what it had reported may still come."""

    def exited(self, child: Any, event: Exited) -> None:  # noqa: ANN401  # see above
        """Learn how it ended, after all else; called once."""


def stop_all(children: Iterable[Running], grace_s: float) -> None:
    """Return when all are gone: SIGTERM to each, SIGKILL to those that are left after `grace_s`."""
    running = list(children)
    for child in running:
        child.terminate()
    deadline = monotonic() + grace_s
    for child in running:
        if not child.wait(max(0.0, deadline - monotonic())):
            child.kill()
    for child in running:
        child.wait()
