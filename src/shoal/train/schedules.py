"""When a learning rate moves: after each step, or after an epoch, perhaps by what validation found."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch

from shoal.base import ConfigError

Scheduler = torch.optim.lr_scheduler.LRScheduler


@dataclass(slots=True)
class Schedule:
    """A scheduler and when it moves.

    Attributes:
        scheduler: any of torch's, `ReduceLROnPlateau` included.
        every: after each "step" or each "epoch".
        frequency: only at every so manieth of these.
        monitor: the validation measure that `ReduceLROnPlateau` looks at, such as "loss".
    """

    scheduler: Scheduler
    every: Literal["step", "epoch"] = "step"
    frequency: int = 1
    monitor: str | None = None
    # How many steps or epochs it has seen.
    count: int = 0

    def __post_init__(self) -> None:
        watches = isinstance(self.scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau)
        if self.every not in ("step", "epoch") or self.frequency < 1 or (watches and self.every == "step"):
            raise ConfigError(
                f"cannot schedule {type(self.scheduler).__name__} every {self.frequency} {self.every}",
                next_step='use every="epoch" for ReduceLROnPlateau, else "step" or "epoch", and a frequency >= 1',
            )
        if watches and self.monitor is None:
            self.monitor = "loss"

    @classmethod
    def of(cls, given: "Scheduler | Schedule") -> "Schedule":
        """A plain scheduler moves after each step; ReduceLROnPlateau after each epoch."""
        if isinstance(given, Schedule):
            return given
        watches = isinstance(given, torch.optim.lr_scheduler.ReduceLROnPlateau)
        return cls(given, every="epoch" if watches else "step")

    def after_step(self) -> None:
        """A step is done."""
        if self.every == "step" and self._is_due():
            self.scheduler.step()

    def after_epoch(self, values: Mapping[str, float]) -> None:
        """An epoch is done, and its validation, with these measures.

        Raises:
            ConfigError: the measure that it looks at is not among them.
        """
        if self.every != "epoch" or not self._is_due():
            return
        if self.monitor is None:
            self.scheduler.step()
            return
        if self.monitor not in values:
            raise ConfigError(
                f"cannot move the learning rate by {self.monitor!r}: validation measured "
                f"{', '.join(sorted(values)) or 'nothing'}",
                next_step="give a validation dataset, and one of its measures as monitor",
            )
        # Only ReduceLROnPlateau takes a number; any other that names a monitor does so for nothing.
        if isinstance(self.scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau):
            self.scheduler.step(values[self.monitor])
        else:
            self.scheduler.step()

    def state_dict(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {"scheduler": self.scheduler.state_dict(), "count": self.count}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """From a checkpoint."""
        self.scheduler.load_state_dict(state["scheduler"])
        self.count = state["count"]

    def _is_due(self) -> bool:
        self.count += 1
        return self.count % self.frequency == 0
