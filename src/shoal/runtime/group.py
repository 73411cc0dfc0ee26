"""The children of one gang or service: started together, heard through one inbox."""

import threading
from collections.abc import Callable, Sequence

from shoal.base import InputError
from shoal.runtime.base import Exited, Member, Report, Started
from shoal.runtime.frames import Message
from shoal.runtime.inbox import Inbox
from shoal.runtime.process import Child
from shoal.runtime.running import Launch, Running


class Group:
    """At most one child for each member, and what happens to all of them in `inbox`. Any thread may call any method."""

    def __init__(
        self, *, after_exit: Callable[[Running], None], start_process: Callable[[Launch], Running] = Child
    ) -> None:
        """Begin empty.

        Args:
            after_exit: called once for each child, when its `Exited` is in the inbox.
            start_process: makes the process of one member; WorkerError where it cannot.
        """
        self.inbox = Inbox()
        self._after_exit = after_exit
        self._start_process = start_process
        self._children: dict[Member, Running] = {}
        self._lock = threading.Lock()

    def start(self, launches: Sequence[Launch]) -> None:
        """Start all of them, or raise WorkerError and leave none."""
        started: list[Running] = []
        try:
            for launch in launches:
                started.append(self._start_process(launch))  # noqa: PERF401  # those before a failure must be known, to end them
        except BaseException:
            for child in started:
                child.discard()
            raise
        # Before anybody can send to them: a child takes the first frame for its orders. After all were started: a large
        # one then travels while the other interpreters come up.
        for child in started:
            child.boot()
        with self._lock:
            self._children.update((child.member, child) for child in started)
        for child in started:
            child.attend(self)

    def children(self) -> list[Running]:
        """The newest child of each member, alive or dead."""
        with self._lock:
            return list(self._children.values())

    def forget(self, member: Member) -> None:
        """Drop a member that will not come back."""
        with self._lock:
            self._children.pop(member, None)

    def send(self, member: Member, message: Message) -> None:
        """Hand a message to the member's newest child; lost if that is dead.

        Raises:
            InputError: no such member, or a message that cannot travel.
        """
        self._find(member, "send to").send(message)

    def kill(self, member: Member) -> None:
        """End the member's newest child at once; InputError for no such member."""
        self._find(member, "kill").kill()

    def _find(self, member: Member, verb: str) -> Running:
        with self._lock:
            child = self._children.get(member)
            known = ", ".join(f"{other.role} {other.rank}" for other in self._children)
        if child is None:
            raise InputError(
                f"cannot {verb} {member.role} {member.rank}: there is no such member",
                next_step=f"{verb} one of: {known or '(none is left)'}",
            )
        return child

    def started(self, child: Running, host: str) -> None:
        """Add the start to the inbox."""
        self.inbox.put(Started(child.member, child.pid, host))

    def wait_for_room(self, child: Running) -> None:
        """Hold a child's next report back while too many are unread; never after its death."""
        self.inbox.wait_for_room(unless=lambda: child.is_ending)

    def reported(self, child: Running, message: Message) -> None:
        """Add a report to the inbox."""
        self.inbox.put(Report(child.member, message))

    def died(self, child: Running) -> None:  # noqa: ARG002  # the inbox asks every child that waits
        """Let the last reports of a dead child in."""
        self.inbox.wake()

    def exited(self, child: Running, event: Exited) -> None:
        """Add the end to the inbox."""
        self.inbox.put(event)
        self._after_exit(child)
