"""What a user wants to have done as a run goes on: functions called in a worker, between two steps."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from torch import nn


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """Where a run stands as a callback is called.

    Attributes:
        step: optimiser steps done.
        epoch: the epoch under way, from 0.
        rank: of this worker, from 0.
        module: the model as it is now, to look at: a worker that changes it parts from the others.
        loss: of the last step, the mean over its rows; NaN before the first.
        values: the last validation's measures by name.
        checkpoint: address of the newest checkpoint that is durable, if there is one.
    """

    step: int
    epoch: int
    rank: int
    module: nn.Module
    loss: float
    values: Mapping[str, float] = field(default_factory=dict)
    checkpoint: str | None = None


class Callback:
    """Override what you want to be called for. An exception ends the run, and is the run's error.

    Called by one worker, or by each where `everywhere` is true: in the worker's process, between two steps, so that
    training waits for it. It is copied to the workers when they start, so what it remembers stays there, and is lost
    with them.
    """

    everywhere: bool = False

    def on_step(self, moment: Moment) -> None:
        """After each step."""

    def on_validation(self, moment: Moment) -> None:
        """After each validation; `moment.values` holds what it found."""

    def on_checkpoint(self, moment: Moment) -> None:
        """In the first worker alone: once a checkpoint has become durable; `moment.checkpoint` is its address."""

    def on_end(self, moment: Moment) -> None:
        """In the first worker alone: after the last step, validation and checkpoint of a run."""


@dataclass(frozen=True, slots=True)
class Callbacks:
    """Those of a run, as one worker calls them."""

    callbacks: Sequence[Callback]
    rank: int

    def __bool__(self) -> bool:
        """Whether there is anybody to call here, so that nobody need put a Moment together for nothing."""
        return any(self._here())

    def on_step(self, moment: Moment) -> None:
        """Call each in the order given."""
        for callback in self._here():
            callback.on_step(moment)

    def on_validation(self, moment: Moment) -> None:
        """Call each in the order given."""
        for callback in self._here():
            callback.on_validation(moment)

    def on_checkpoint(self, moment: Moment) -> None:
        """Call each in the order given."""
        for callback in self._here():
            callback.on_checkpoint(moment)

    def on_end(self, moment: Moment) -> None:
        """Call each in the order given."""
        for callback in self._here():
            callback.on_end(moment)

    def _here(self) -> list[Callback]:
        return [callback for callback in self.callbacks if callback.everywhere or self.rank == 0]
