"""What a supervisor tells its workers: once at their start, and again whenever they are to meet."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from shoal.train.group.meeting import Kind, Meeting
from shoal.train.plan import Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What the supervisor knows already: the newest step, epoch, validation and checkpoint; -1 for none."""

    step: int = -1
    epoch: int = -1
    validation: int = -1
    saved: int = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Meet:
    """A call to the workers of these numbers, in rank order, to form a generation.

    Attributes:
        kind, name: of the meeting, as `Meeting` has them.
        planned: everybody alive can still finish the step; otherwise somebody is gone, and waiting is of no use.
        checkpoint, checkpoint_step: where to go on from if nobody is further; None and -1 for the run's beginning.
        told: what need not be told again.
    """

    generation: int
    numbers: Sequence[int]
    kind: Kind
    name: str
    planned: bool = False
    checkpoint: str | None = None
    checkpoint_step: int = -1
    told: Told = Told()

    def meeting(self, number: int) -> Meeting:
        """Where the worker of this number goes."""
        return Meeting(
            kind=self.kind,
            name=self.name,
            rank=list(self.numbers).index(number),
            size=len(self.numbers),
            generation=self.generation,
        )

    def to_message(self) -> dict[str, Any]:
        """As a message of the runtime."""
        return asdict(replace(self, numbers=list(self.numbers)))

    @classmethod
    def from_message(cls, message: Mapping[str, Any]) -> "Meet":
        """What `to_message` was given."""
        return cls(**{**message, "told": Told(**message["told"])})


@dataclass(frozen=True, slots=True, kw_only=True)
class Orders:
    """What every worker of a run is told at its start.

    Attributes:
        checkpoints: folder or address of the checkpoints.
        first: the first generation, for the workers that are in it; saves them from waiting for a message.
        beat_s: how often to tell of being alive.
        saving_s: for how long a place that takes nothing may be waited for.
        device: where to compute, as `check_device` has it.
    """

    plan: Plan
    checkpoints: str
    first: Meet | None
    beat_s: float = 1.0
    saving_s: float = 600.0
    device: str | None = None
