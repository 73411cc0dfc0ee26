"""Members on this machine that are started together."""

import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Self

from shoal.runtime.base import Event, Member
from shoal.runtime.frames import Message
from shoal.runtime.group import Group
from shoal.runtime.process import Child, Launch, stop_all


class LocalGang:
    """Child processes of this one; keeps the promises of `Gang`."""

    def __init__(self, launches: Sequence[Launch]) -> None:
        """Start them all, or raise WorkerError and leave none."""
        self._num_left = len(launches)
        self._lock = threading.Lock()
        self._group = Group(after_exit=self._count_out)
        self._group.start(launches)

    @property
    def pids(self) -> Mapping[Member, int]:
        """Process ids of the members that still run."""
        return {child.member: child.pid for child in self._group.children() if not child.is_dead}

    @property
    def is_over(self) -> bool:
        """Whether every member has exited and every event was taken."""
        return self._group.inbox.is_over

    def events(self, timeout_s: float | None = None) -> Iterator[Event]:
        """What happens to the members, as `Gang.events` promises."""
        return self._group.inbox.take(timeout_s)

    def send(self, member: Member, message: Message) -> None:
        """Hand a message to a member, as `Gang.send` promises."""
        self._group.send(member, message)

    def stop(self, grace_s: float = 5.0) -> None:
        """Return when every member is gone: SIGTERM, then SIGKILL after `grace_s`."""
        stop_all(self._group.children(), grace_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def _count_out(self, _: Child) -> None:
        with self._lock:
            self._num_left -= 1
            is_last = self._num_left == 0
        if is_last:
            self._group.inbox.close()
