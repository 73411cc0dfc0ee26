"""The seams of training: what a strategy is given, what it must keep, and how its members talk to each other."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import nn

from shoal.train.task import Batch, Task


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """Where a run stands: so many batches of this epoch are done, and `step` of all epochs together.

    `loss_sum` and `rows` are over the batches of this epoch, so that its mean loss survives an interruption.
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    rows: int = 0


@dataclass(slots=True, kw_only=True)
class TrainState:
    """Everything that a step changes; every member of a collective run holds the same."""

    task: Task
    module: nn.Module
    optimizer: torch.optim.Optimizer
    scheduler: torch.optim.lr_scheduler.LRScheduler | None
    position: Position


@dataclass(frozen=True, slots=True, kw_only=True)
class GlobalBatch:
    """One step's batch before anybody has read it: micro-batch i has `rows[i]` rows, and `read(i)` fetches them.

    A micro-batch without rows is never read.
    """

    rows: Sequence[int]
    read: Callable[[int], Batch]

    @classmethod
    def of(cls, num_rows: int, *, batch_size: int, num_parts: int, read: Callable[[int, int], Batch]) -> "GlobalBatch":
        """Cut a batch of `num_rows` <= `batch_size` rows so that micro-batches stay about as large as in a full one.

        A partial batch so fills the last few micro-batches and leaves the first ones empty: crumbs of one row would
        be slow, and batch normalisation refuses them.

        Args:
            num_rows: rows in this batch.
            batch_size: rows in a full batch.
            num_parts: micro-batches.
            read: from (i, n) to the i-th of n even cuts of the batch.
        """
        used = -(-num_rows // -(-batch_size // num_parts))
        empty = num_parts - used
        edges = [num_rows * part // used for part in range(used + 1)]
        rows = [edges[part + 1] - edges[part] for part in range(used)]
        return cls(rows=[0] * empty + rows, read=lambda part: read(part - empty, used))


class Group(Protocol):
    """The members of one generation of a run, who all make the same calls in the same order."""

    @property
    def rank(self) -> int:
        """This member's number, from 0."""

    @property
    def size(self) -> int:
        """How many members there are."""

    def exchange(self, mine: torch.Tensor, everyone: Sequence[torch.Tensor]) -> None:
        """Send these bytes to all and wait for those of all, itself included.

        Args:
            mine: uint8 [num_bytes], of the same length for every member.
            everyone: a tensor of that length per member, overwritten in rank order.

        Raises:
            PeerLostError: a member is gone; the group is of no further use.
        """

    def close(self) -> None:
        """Let go of the connections."""


class Stepper(Protocol):
    """One member's part in the steps of a run; single-threaded."""

    def step(self, batch: GlobalBatch) -> float:
        """Move the state by one step and return the mean loss over the global batch, the same for every member.

        The weights must be the same bits for any number of members. A loss that is not finite leaves them as they were.
        """


@runtime_checkable
class Strategy(Protocol):
    """How the workers of a run share one step. A value: frozen, small, sent to every worker.

    Promises: final weights depend on the task, the data, the seed, the batch size and `num_parts`, never on how many
    workers there were or when they died. `shoal.testing.StrategyContract` holds every strategy to them.
    """

    def roles(self, workers: int) -> Mapping[str, int]:
        """How many members of which role to start; ConfigError when `workers` cannot share the work."""

    def num_parts(self, workers: int) -> int:
        """Into how many micro-batches a global batch is cut; fixed for the life of a run, recorded with it."""

    def join(self, state: TrainState, group: Group, *, seed: int, num_parts: int) -> Stepper:
        """Take this member's part, before its first step."""


class PeerLostError(RuntimeError):
    """Another member of the group is gone; never shown to a user, whose error is that member's own."""
