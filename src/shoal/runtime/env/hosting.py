"""The keeper of one rank, as rank 0 holds it: there already, in a process that is not ours to start or to end."""

import threading
from collections.abc import Callable

from shoal.runtime.remote.line import Line
from shoal.runtime.remote.reception import Reception

_LOOK_EVERY_S = 0.2


class EnvHost:
    """Provides the keeper of one member; keeps the promises of `Host`."""

    def __init__(self, reception: Reception, rank: int, asked_to_stop: Callable[[], None]) -> None:
        """Wait for nobody yet.

        Args:
            reception: where the ranks call.
            rank: whose keeper it is.
            asked_to_stop: called when the launcher asks that rank to stop.
        """
        self._reception = reception
        self._rank = rank
        self._line: Line | None = None
        self._released = threading.Event()
        self.asked_to_stop = asked_to_stop

    def connect(self) -> Line | None:
        """The keeper's line, as `Host.connect` promises."""
        # In short turns: the next gang waits for the same rank, and must not find what was meant for this one.
        while self._line is None and not self._released.is_set():
            self._line = self._reception.wait(self._rank, _LOOK_EVERY_S)
        return self._line

    def explain(self) -> str:
        """What is known here, which is little."""
        return f"the process of rank {self._rank} ended, or its machine does not answer"

    def release(self) -> None:
        """Hang up: the keeper ends the member, and calls again for the next."""
        self._released.set()
        if self._line is not None:
            self._line.hang_up()
