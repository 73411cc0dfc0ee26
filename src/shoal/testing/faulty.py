"""What goes wrong in the workers of the contract of faults; apart from it, as no worker should import pytest."""

import os
import resource
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shoal.testing.strategy import ContractTask
from shoal.train.callbacks import Callback, Moment
from shoal.train.task import Batch, Outputs

# More than a step may take and less than a machine has.
_TOO_MUCH_BYTES = 2**36


@dataclass(frozen=True)
class FaultyTask(ContractTask):
    """In one worker, once, the computation of a loss goes wrong: `folder` remembers that it did."""

    folder: str = ""
    fault: str = ""
    after: int = 40

    def loss(self, outputs: Outputs, batch: Batch) -> Any:  # noqa: ANN401  # a tensor, whose package this file does not name
        """Cross entropy, or the fault."""
        global _num_losses
        _num_losses += 1
        if _num_losses >= self.after and claim(Path(self.folder) / "fault"):
            if self.fault == "raise":
                raise ZeroDivisionError("wrong from the start")
            _allocate_too_much(batch)
        return super().loss(outputs, batch)


_num_losses = 0


def _allocate_too_much(batch: Batch) -> None:
    """Ask the system for more than this process may have, for real."""
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (_TOO_MUCH_BYTES // 2, limits[1]))
    batch["features"].new_ones(_TOO_MUCH_BYTES)


def claim(path: Path) -> bool:
    """Whether this process is the first that asks for it."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True


@dataclass
class Footprints(Callback):
    """Writes a line per step that a worker has finished: "pid rank step".

    After `slow_from` steps it slows down until so many processes have left their lines: a fast run would be over before
    a replacement is there.
    """

    path: str
    num_processes: int = 0
    slow_from: int = 60
    pace_s: float = 0.004
    everywhere = True

    def on_step(self, moment: Moment) -> None:
        """One line, and a little time."""
        with Path(self.path).open("ab", buffering=0) as file:
            file.write(b"%d %d %d\n" % (os.getpid(), moment.rank, moment.step))
        lacks = moment.step > self.slow_from and len({pid for pid, _, _ in self.read()}) < self.num_processes
        time.sleep(0.1 if lacks else self.pace_s)

    def read(self) -> list[tuple[int, int, int]]:
        """Every line so far: process, rank, step."""
        lines = Path(self.path).read_text().splitlines() if Path(self.path).exists() else []
        return [(int(pid), int(rank), int(step)) for pid, rank, step in map(str.split, lines)]
