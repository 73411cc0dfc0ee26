"""What a run of a flow gives back: its value, and for each step what happened and why."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class StepOutcome:
    """How one step ended.

    `reason` says why it ran or whose result was reused. `undeclared` lists files that it read though no input names
    them, `unseen` the code that could not be followed: neither is in its key, so a change there goes unnoticed.
    """

    name: str
    key: str | None
    reused: bool
    seconds: float
    reason: str
    undeclared: tuple[str, ...] = ()
    unseen: tuple[str, ...] = ()


Progress = Callable[[StepOutcome], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowRun:
    """A finished run: what the flow returned, with every handle replaced by its value, and the outcomes in order."""

    value: object
    outcomes: tuple[StepOutcome, ...]

    @property
    def num_reused(self) -> int:
        """Steps whose kept result was used."""
        return sum(outcome.reused for outcome in self.outcomes)

    @property
    def num_run(self) -> int:
        """Steps that were computed in this run."""
        return len(self.outcomes) - self.num_reused


@dataclass(frozen=True, slots=True, kw_only=True)
class StepPlan:
    """What a run would do with one step, and why."""

    name: str
    reused: bool
    reasons: tuple[str, ...]
