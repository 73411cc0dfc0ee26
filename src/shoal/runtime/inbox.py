"""The events of a group of members, in order, with a bound on what waits to be read."""

import threading
from collections import deque
from collections.abc import Callable, Iterator
from time import monotonic

from shoal.runtime.base import Exited, Report, Started

# Reports of a member come in through a socket of a few hundred KiB; this many more may wait here.
MAX_UNREAD_REPORTS = 1024


class Inbox:
    """Many threads put, many may take; an event is taken once.

    Reports beyond the bound make their member wait. Starts and exits are never held up.
    """

    def __init__(self, *, max_unread_reports: int = MAX_UNREAD_REPORTS) -> None:
        self._max_unread_reports = max_unread_reports
        self._num_unread_reports = 0
        self._events: deque[Started | Report | Exited] = deque()
        self._changed = threading.Condition()
        self._closed = False

    def put(self, event: Started | Report | Exited) -> None:
        """Add an event, whatever waits already."""
        with self._changed:
            self._num_unread_reports += isinstance(event, Report)
            self._events.append(event)
            self._changed.notify_all()

    def wait_for_room(self, unless: Callable[[], bool]) -> None:
        """Return when a report may be put: there is room, or `unless` holds (looked at again after each `wake`)."""
        with self._changed:
            while self._num_unread_reports >= self._max_unread_reports and not unless():
                self._changed.wait()

    def wake(self) -> None:
        """Let everybody who waits look again."""
        with self._changed:
            self._changed.notify_all()

    def open(self) -> None:
        """Say that events will come after all."""
        with self._changed:
            self._closed = False

    def close(self) -> None:
        """Say that no event will come any more: `take` ends after the last."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    @property
    def is_over(self) -> bool:
        """Whether it is closed and every event was taken."""
        with self._changed:
            return self._closed and not self._events

    def take(self, timeout_s: float | None = None) -> Iterator[Started | Report | Exited]:
        """Yield events as they come; end when it is over, or when none came for `timeout_s`."""
        while (event := self._next(timeout_s)) is not None:
            yield event

    def _next(self, timeout_s: float | None) -> Started | Report | Exited | None:
        deadline = None if timeout_s is None else monotonic() + timeout_s
        with self._changed:
            while not self._events:
                left_s = None if deadline is None else deadline - monotonic()
                if self._closed or (left_s is not None and left_s <= 0):
                    return None
                self._changed.wait(left_s)
            event = self._events.popleft()
            self._num_unread_reports -= isinstance(event, Report)
            self._changed.notify_all()
            return event
