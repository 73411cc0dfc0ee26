"""When drift becomes an alert: a pure decision, so that it can be tested and replayed without any traffic."""

from dataclasses import dataclass
from typing import Literal

from shoal.base import ConfigError
from shoal.watch.comparison import DriftReport

Action = Literal["raise", "clear"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertPolicy:
    """How much drift makes an alert.

    Attributes:
        patience: windows in a row that must drift to raise it, and that must be clean to clear it.
        sudden: a single window that drifts by more than this many thresholds raises it at once.
    """

    patience: int = 2
    sudden: float = 2.0

    def __post_init__(self) -> None:
        if self.patience < 1 or self.sudden < 1:
            raise ConfigError(
                f"patience={self.patience} and sudden={self.sudden} must both be >= 1",
                next_step="leave them out for 2 and 2.0",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertState:
    """What the decision remembers between windows."""

    is_raised: bool = False
    num_drifted: int = 0
    num_clean: int = 0


def decide(
    state: AlertState, report: DriftReport, policy: AlertPolicy | None = None
) -> tuple[AlertState, tuple[Action, ...]]:
    """Return the state after one more window, and what to do about it: nothing, or one action."""
    policy = policy or AlertPolicy()
    num_drifted = state.num_drifted + 1 if report.drifted else 0
    num_clean = 0 if report.drifted else state.num_clean + 1
    actions: tuple[Action, ...] = ()
    if state.is_raised and num_clean >= policy.patience:
        actions = ("clear",)
    elif not state.is_raised and (num_drifted >= policy.patience or report.worst.strength > policy.sudden):
        actions = ("raise",)
    is_raised = state.is_raised if not actions else actions == ("raise",)
    return AlertState(is_raised=is_raised, num_drifted=num_drifted, num_clean=num_clean), actions
