"""The children of one gang or service: started together, heard through one inbox."""

import threading
from collections.abc import Callable, Sequence

from shoal.base import InputError
from shoal.runtime.base import Exited, Member, Report, Started
from shoal.runtime.frames import Message
from shoal.runtime.inbox import Inbox
from shoal.runtime.process import Child, Launch


class Group:
    """At most one child for each member, and what happens to all of them in `inbox`. Any thread may call any method."""

    def __init__(self, *, after_exit: Callable[[Child], None]) -> None:
        """Begin empty.

        Args:
            after_exit: called once for each child, when its `Exited` is in the inbox.
        """
        self.inbox = Inbox()
        self._after_exit = after_exit
        self._children: dict[Member, Child] = {}
        self._lock = threading.Lock()

    def start(self, launches: Sequence[Launch]) -> None:
        """Start all of them, or raise WorkerError and leave none."""
        started: list[Child] = []
        try:
            for launch in launches:
                started.append(Child(launch))  # noqa: PERF401  # those before a failure must be known, to end them
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
            self.inbox.put(Started(child.member, child.pid))
            child.attend(self)

    def children(self) -> list[Child]:
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
        with self._lock:
            child = self._children.get(member)
            known = ", ".join(f"{other.role} {other.rank}" for other in self._children)
        if child is None:
            raise InputError(
                f"cannot send to {member.role} {member.rank}: there is no such member",
                next_step=f"send to one of: {known or '(none is left)'}",
            )
        child.send(message)

    def wait_for_room(self, child: Child) -> None:
        """Hold a child's next report back while too many are unread; never after its death."""
        self.inbox.wait_for_room(unless=lambda: child.is_dead)

    def reported(self, child: Child, message: Message) -> None:
        """Add a report to the inbox."""
        self.inbox.put(Report(child.member, message))

    def died(self, child: Child) -> None:  # noqa: ARG002  # the inbox asks every child that waits
        """Let the last reports of a dead child in."""
        self.inbox.wake()

    def exited(self, child: Child, event: Exited) -> None:
        """Add the end to the inbox."""
        self.inbox.put(event)
        self._after_exit(child)
