"""Members on a cluster that are kept alive."""

from shoal.base import WorkerError
from shoal.runtime.remote.child import wait_until_there
from shoal.runtime.service import LocalService


class RayService(LocalService):
    """Children of actors, each placed by itself; keeps the promises of `Service`."""

    def add(self, num: int = 1) -> None:
        """Start `num` more members and wait until they are there; all of them, or WorkerError."""
        super().add(num)
        try:
            wait_until_there(self._group.children())
        except WorkerError:
            self.remove(num, grace_s=0.0)
            raise
