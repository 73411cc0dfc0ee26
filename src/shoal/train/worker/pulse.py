"""The sign of life of a worker: a thread that says again and again what the main thread is at."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic

import torch

from shoal.train.base import Group, Reduce
from shoal.train.reports import Beat


class Pulse:
    """Beats until the process ends. `step` and `phase` are the main thread's to set."""

    def __init__(self, tell: Callable[[Beat], None], every_s: float) -> None:
        self.step = 0
        self._phase = "warming"
        self._since = monotonic()
        self._tell = tell
        self._every_s = every_s
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="shoal-pulse", daemon=True)
        self._thread.start()

    def enter(self, phase: str) -> None:
        """Begin with something else."""
        self._phase, self._since = phase, monotonic()

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Do something for the length of a block."""
        before = self._phase
        self.enter(name)
        try:
            yield
        finally:
            self.enter(before)

    def stop(self) -> None:
        """Fall silent."""
        self._stopped.set()
        self._thread.join()

    def _beat(self) -> None:
        while not self._stopped.wait(self._every_s):
            self._tell(Beat(step=self.step, phase=self._phase, for_s=monotonic() - self._since))


class WatchedGroup:
    """A group whose waits show in the pulse: whoever waits for another must not be taken for slow."""

    def __init__(self, group: Group, pulse: Pulse) -> None:
        self.rank = group.rank
        self.size = group.size
        self._group = group
        self._pulse = pulse

    def memory(self, num_bytes: int) -> torch.Tensor:
        """As the group's own."""
        with self._pulse.phase("waiting"):
            return self._group.memory(num_bytes)

    def combine(self, num_bytes: int, reduce: Reduce, note: int = 0) -> tuple[torch.Tensor, list[int]]:
        """As the group's own."""
        with self._pulse.phase("waiting"):
            return self._group.combine(num_bytes, reduce, note)

    def share(self, data: bytes) -> list[bytes]:
        """As the group's own."""
        with self._pulse.phase("waiting"):
            return self._group.share(data)

    def broadcast(self, data: torch.Tensor | None, root: int) -> torch.Tensor:
        """As the group's own."""
        with self._pulse.phase("waiting"):
            return self._group.broadcast(data, root)

    def close(self) -> None:
        """As the group's own."""
        self._group.close()
