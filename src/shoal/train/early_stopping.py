"""When to stop because nothing gets better: decided by every member from the same numbers, so all stop alike."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from shoal.base import ConfigError
from shoal.train.base import TrainState

_NAME = "early_stopping"


@dataclass(frozen=True, slots=True, kw_only=True)
class EarlyStopping:
    """Stop when a validation measure has not become better for a while.

    Every validation counts: with `validate_every_steps` those in between and that at an epoch's end alike. The best
    step's checkpoint is kept beside the newest ones. Whether the run was stopped or came to its last step,
    `result.model` has the weights of the best validation, unless `restore_best` is false;
    `result.best_checkpoint` is its checkpoint, and `result.checkpoint` the last one, from which a run would go on.

    Attributes:
        monitor: its name, such as "loss" or "accuracy".
        patience: so many validations in a row without a better value end the run.
        min_change: by how much a value must be better to count.
        mode: whether smaller ("min") or larger ("max") is better; left out, "min" for the loss, else "max".
        restore_best: whether `result.model` has the weights of the best validation, or those of the last step.
    """

    monitor: str = "loss"
    patience: int = 3
    min_change: float = 0.0
    mode: Literal["min", "max"] | None = None
    restore_best: bool = True

    def __post_init__(self) -> None:
        if self.patience < 1 or not self.min_change >= 0 or self.mode not in ("min", "max", None):
            raise ConfigError(
                f"early stopping with patience={self.patience}, min_change={self.min_change}, mode={self.mode!r} "
                "cannot be",
                next_step='use patience >= 1, min_change >= 0, and mode "min" or "max"',
            )

    def should_stop(self, values: Mapping[str, float], state: TrainState) -> bool:
        """Take in one validation's measures, after the step that the state's position says.

        What was best, and when, is kept in the state, so that it survives an interruption.

        Raises:
            ConfigError: the measure is not among the values.
        """
        if self.monitor not in values:
            raise ConfigError(
                f"cannot stop early by {self.monitor!r}: validation measured {', '.join(sorted(values)) or 'nothing'}",
                next_step=f"give monitor= one of these: {', '.join(sorted(values))}"
                if values
                else "give a validation dataset, and one of its measures as monitor",
            )
        value = values[self.monitor]
        kept = state.extras.setdefault(_NAME, {"best": math.nan, "best_step": -1, "waited": 0})
        if self._is_better(value, kept["best"]):
            kept.update(best=value, best_step=state.position.step, waited=0)
        else:
            kept["waited"] += 1
        return bool(kept["waited"] >= self.patience)

    def _is_better(self, value: float, best: float) -> bool:
        if math.isnan(value) or math.isnan(best):
            return not math.isnan(value)
        sign = -1 if self.mode == "max" or (self.mode is None and not self.monitor.endswith("loss")) else 1
        return sign * (best - value) > self.min_change


def best_step(state: TrainState) -> int | None:
    """Return the step after which the monitored measure was best so far, whose checkpoint is worth keeping."""
    kept: dict[str, Any] = state.extras.get(_NAME, {})
    return kept["best_step"] if kept.get("best_step", -1) >= 0 else None
