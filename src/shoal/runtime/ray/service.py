"""Members on a cluster that are kept alive."""

from collections.abc import Callable

from shoal.base import WorkerError
from shoal.runtime.base import Backoff
from shoal.runtime.remote.child import wait_until_there
from shoal.runtime.running import Launch, Running
from shoal.runtime.service import LocalService


class RayService(LocalService):
    """Children of actors, each placed by itself; keeps the promises of `Service`."""

    def __init__(
        self,
        pattern: Launch,
        replicas: int,
        restart: Backoff,
        *,
        start_process: Callable[[Launch], Running],
        waits: bool = True,
    ) -> None:
        """Start the first members; `waits` says whether this and `add` return when they are there, or at once."""
        self._waits = waits
        super().__init__(pattern, replicas, restart, start_process=start_process)

    def add(self, num: int = 1) -> None:
        """Start `num` more members; where that is to wait until they are there, all of them, or WorkerError."""
        super().add(num)
        if not self._waits:
            return
        try:
            wait_until_there(self._group.children())
        except WorkerError:
            self.remove(num, grace_s=0.0)
            raise
