"""Members beside the processes of a job, one for each rank."""

from collections.abc import Callable, Sequence

from shoal.base import UnsupportedError
from shoal.runtime.base import Member
from shoal.runtime.gang import LocalGang
from shoal.runtime.remote.child import wait_until_there
from shoal.runtime.running import Launch, Running


class EnvGang(LocalGang):
    """One member for each rank, as many as there are; keeps the promises of `Gang` but for `add`."""

    def __init__(self, launches: Sequence[Launch], start_process: Callable[[Launch], Running]) -> None:
        """Start them all and wait until every rank has joined, or raise WorkerError and leave none."""
        super().__init__(launches, start_process)
        try:
            wait_until_there(self._group.children())
        except BaseException:
            self.stop(0.0)
            raise

    def add(self, role: str, num: int = 1) -> list[Member]:
        """Nobody can be added: UnsupportedError."""
        raise UnsupportedError(
            f"cannot add {num} of {role} to a gang of given processes: their number is the launcher's to choose",
            next_step="go on with those that are left, or let torchrun or Slurm start the job again",
        )
