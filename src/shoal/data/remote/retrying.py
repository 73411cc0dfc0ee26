"""Trying again: with growing pauses, up to a deadline, and then an error that tells the whole story."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import TypeVar

from shoal.base import Clock, ConfigError, RemoteError, SystemClock

Result = TypeVar("Result")


class TransientError(Exception):
    """One attempt failed in a way that another may not; never leaves the remote folder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteSettings:
    """How patient shoal is with a remote store, and how much it asks for at once.

    A request counts as failed when nothing came for `stall_s`. It is tried again after a pause that doubles from
    `first_pause_s` to `max_pause_s`, less up to half of it by chance, until `deadline_s` after its first attempt.
    What was under way when it broke off is a request of its own for the rest: its deadline begins anew.
    """

    deadline_s: float = 60.0
    stall_s: float = 10.0
    first_pause_s: float = 0.1
    max_pause_s: float = 5.0
    # 8 MiB at least and 8 requests: smaller or more gain nothing on loopback that stands out of the noise, larger files
    # come in larger ranges; other networks were not measured.
    range_bytes: int = 8 << 20
    num_requests: int = 8

    def __post_init__(self) -> None:
        for name in ("deadline_s", "stall_s", "first_pause_s", "max_pause_s", "range_bytes", "num_requests"):
            if getattr(self, name) <= 0:
                raise ConfigError(f"{name}={getattr(self, name)} must be > 0", next_step="leave it out")


@dataclass(frozen=True, slots=True)
class Retrier:
    """Calls something until it works; any number of threads at once. Time and chance are arguments."""

    settings: RemoteSettings = field(default_factory=RemoteSettings)
    clock: Clock = field(default_factory=SystemClock)
    sleep: Callable[[float], None] = time.sleep
    chance: Callable[[], float] = random.random

    def call(
        self, action: str | Callable[[], str], attempt: Callable[[], Result], *, max_attempts: int | None = None
    ) -> Result:
        """Return what the attempt returns, once one succeeds; errors other than TransientError end it at once.

        Args:
            action: what is done to what, for the message: "fetch s3://bucket/x"; or what tells it.
            attempt: called until it does not raise TransientError.
            max_attempts: give up after so many, even before the deadline.

        Raises:
            RemoteError: the deadline would pass before the next attempt, or there were enough.
        """
        started = self.clock.monotonic()
        for number in count(1):
            try:
                return attempt()
            except TransientError as error:
                pause = self._pause_s(number)
                waited = self.clock.monotonic() - started
                if number == max_attempts or waited + pause > self.settings.deadline_s:
                    what = action if isinstance(action, str) else action()
                    raise RemoteError(
                        f"cannot {what}: {number} attempt{'s' * (number > 1)} in {waited:.1f} s failed, the last "
                        f"with: {error}",
                        next_step="check that the store is up and reachable, then run it again: what is here is kept",
                    ) from error
                self.sleep(pause)
        raise AssertionError("count() does not end")

    def _pause_s(self, number: int) -> float:
        longest = min(self.settings.max_pause_s, self.settings.first_pause_s * 2.0 ** min(number - 1, 30))
        # By chance, so that many workers that failed together do not all come back together.
        return longest * (1 - self.chance() / 2)
