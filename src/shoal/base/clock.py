"""Time as an argument: code that waits or stamps takes a clock, so that tests own the time."""

import time
from datetime import UTC, datetime, timedelta
from typing import Protocol

from shoal.base.errors import InputError


class Clock(Protocol):
    """Tells the time of day and measures durations; safe to read from any thread."""

    def now(self) -> datetime:
        """Return the time of day as an aware datetime in UTC; it may jump when the machine's clock is set."""
        ...

    def monotonic(self) -> float:
        """Return seconds since an arbitrary start; never goes back."""
        ...


class SystemClock:
    """The machine's own clock."""

    def now(self) -> datetime:
        """Return the machine's time of day, in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Return seconds of the machine's monotonic clock."""
        return time.monotonic()


class ManualClock:
    """A clock that moves only when told to: both readings advance together."""

    def __init__(self, start: datetime = datetime(2026, 1, 1, tzinfo=UTC)) -> None:
        self._now = start
        self._monotonic = 0.0

    def now(self) -> datetime:
        """Return the start plus all advances so far."""
        return self._now

    def monotonic(self) -> float:
        """Return the sum of all advances so far, in seconds."""
        return self._monotonic

    def advance(self, seconds: float) -> None:
        """Move the clock forward; a negative step is an InputError, as time does not run back."""
        if seconds < 0:
            raise InputError(f"cannot advance a clock by {seconds} s", next_step="pass seconds >= 0")
        self._now += timedelta(seconds=seconds)
        self._monotonic += seconds
