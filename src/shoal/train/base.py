"""The seams of training: what a strategy is given, what it must keep, and how its members talk to each other."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import torch
from torch import nn

from shoal.train.logbook import Logbook
from shoal.train.schedules import Schedule
from shoal.train.task import Batch, Task


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """Where a run stands: `row` rows of this epoch's order are done, and `step` steps of all epochs together.

    `loss_sum` is over the rows of this epoch, so that its mean loss survives an interruption. `validated_step` is the
    last step after which the model was measured, -1 before the first time.
    """

    epoch: int = 0
    row: int = 0
    step: int = 0
    loss_sum: float = 0.0
    validated_step: int = -1


@dataclass(slots=True, kw_only=True)
class TrainState:
    """Everything that a step changes; every member of a collective run holds the same.

    `extras` holds what else must survive an interruption, by the name of who keeps it there (an average of weights,
    patience left, the present batch size): plain values and tensors.
    """

    task: Task
    module: nn.Module
    optimizers: list[torch.optim.Optimizer]
    schedulers: list[Schedule]
    position: Position
    extras: dict[str, dict[str, Any]] = field(default_factory=dict)
    # What this member logged since the last report: of all fields, the only one that each has its own of.
    logged: Logbook = field(default_factory=Logbook)


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


# From (every member's memory in rank order, target, start, stop): fills target[start:stop] with what those bytes of all
# members together come to. Starts are multiples of 64. A memory is uint8 [num_bytes], or [pieces, bytes of each] with
# rows of any stride; of it only those bytes are there.
Reduce = Callable[[Sequence[torch.Tensor], torch.Tensor, int, int], None]


class Group(Protocol):
    """The members of one generation of a run, who all make the same calls in the same order.

    Any call raises PeerLostError when a member is gone or the supervisor calls for a new generation: the group is then
    of no further use, and nobody can say whether the others have got through the call.
    """

    @property
    def rank(self) -> int:
        """This member's number, from 0."""

    @property
    def size(self) -> int:
        """How many members there are."""

    def memory(self, num_bytes: int) -> torch.Tensor:
        """uint8 [num_bytes], where this member puts what it brings to `combine`; the same one at every call.

        Free for writing until `combine` is called, and again when that has returned. All ask for the same size: one or
        more pieces, behind each other, of what `combine` is then asked for. It is on the device that the group is for.
        """

    def combine(self, num_bytes: int, reduce: Reduce, note: int = 0) -> tuple[torch.Tensor, list[int]]:
        """Wait for all and return what all their memories together come to, the same bits for every member.

        Args:
            num_bytes: of the result.
            reduce: called by each member for the stretches of the result that fall to it.
            note: a small number >= 0 for the others.

        Returns:
            uint8 [num_bytes], good until the next `combine`, and every member's note in rank order.
        """

    def share(self, data: bytes) -> list[bytes]:
        """Give some bytes, of any length, to all and return those of all in rank order. For what is small and rare."""

    def broadcast(self, data: torch.Tensor | None, root: int) -> torch.Tensor:
        """Return the root's uint8 [n] to everybody; the others give None. For state that a newcomer lacks."""

    def close(self) -> None:
        """Let go of the connections and the memory. Idempotent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepOutcome:
    """What a step came to, the same for every member.

    Attributes:
        loss: mean over the global batch; the step was taken only if it is finite.
        notes: what each member had to say, in rank order.
        part_square, whole_square: the mean squared norm of the virtual workers' own gradients, and that of the whole
            batch's gradient, where the strategy was asked to measure them; else NaN.
        bad_parts: on the member that computed them, the micro-batches whose loss was not finite.
        exchange_s, update_s: seconds spent on combining, waiting for others included, and on the optimisers.
    """

    loss: float
    notes: Sequence[int] = (0,)
    part_square: float = math.nan
    whole_square: float = math.nan
    bad_parts: Sequence[int] = ()
    exchange_s: float = 0.0
    update_s: float = 0.0


class Stepper(Protocol):
    """One member's part in the steps of a run; single-threaded."""

    def step(self, batch: GlobalBatch, note: int = 0) -> StepOutcome:
        """Move the state by one step; the position is the caller's to move.

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

    def join(
        self, state: TrainState, group: Group, *, seed: int, num_parts: int, measure_noise: bool = False
    ) -> Stepper:
        """Take this member's part, before its first step in this group."""


class PeerLostError(RuntimeError):
    """A member of the group is gone, or a new generation is to meet; never shown to a user."""
