"""Members on this machine that are started together."""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Self

from shoal.base import InputError
from shoal.runtime.base import Event, Member
from shoal.runtime.frames import Message
from shoal.runtime.group import Group
from shoal.runtime.process import Child
from shoal.runtime.running import Launch, Running, stop_all


class LocalGang:
    """Child processes of this one, unless told otherwise; keeps the promises of `Gang`."""

    def __init__(self, launches: Sequence[Launch], start_process: Callable[[Launch], Running] = Child) -> None:
        """Start them all, or raise WorkerError and leave none."""
        self._num_left = len(launches)
        self._patterns = {launch.member.role: launch for launch in launches}
        # Held while members start: whoever stops the gang then finds them all.
        self._lock = threading.Lock()
        self._is_stopped = False
        self._group = Group(after_exit=self._count_out, start_process=start_process)
        self._group.start(launches)

    @property
    def pids(self) -> Mapping[Member, int]:
        """Process ids of the members that still run."""
        return {child.member: child.pid for child in self._group.children() if child.pid and not child.is_dead}

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

    def add(self, role: str, num: int = 1) -> list[Member]:
        """Start `num` more members of a role, or none, as `Gang.add` promises."""
        with self._lock:
            if self._is_stopped:
                raise InputError("cannot add to a gang that was stopped", next_step="start a new gang")
            if role not in self._patterns or num < 1:
                raise InputError(
                    f"cannot add {num} of the role {role!r} to a gang of {', '.join(self._patterns)}",
                    next_step="add at least one member of a role that the gang was started with",
                )
            last = self._patterns[role]
            total = last.world_size + num
            launches = [
                replace(last, member=Member(role, rank), world_size=total) for rank in range(last.world_size, total)
            ]
            self._group.inbox.open()
            self._num_left += num
            try:
                self._group.start(launches)
            except BaseException:
                self._count_down(num)
                raise
            self._patterns[role] = launches[-1]
        return [launch.member for launch in launches]

    def kill(self, member: Member) -> None:
        """End a member at once, as `Gang.kill` promises."""
        self._group.kill(member)

    def stop(self, grace_s: float = 5.0) -> None:
        """Return when every member is gone: SIGTERM, then SIGKILL after `grace_s`."""
        with self._lock:
            self._is_stopped = True
        stop_all(self._group.children(), grace_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def _count_out(self, _: Running) -> None:
        with self._lock:
            self._count_down(1)

    def _count_down(self, num: int) -> None:
        self._num_left -= num
        if self._num_left == 0:
            self._group.inbox.close()
