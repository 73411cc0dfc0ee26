"""What a batch of another size means for the optimiser's step: a scaled learning rate, and schedules that move by rows.

Both lie in the state, so that every member, every newcomer and every checkpoint has the same.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from shoal.train.base import TrainState

NAME = "batch_size"


def facts_of(state: TrainState) -> dict[str, Any]:
    """What the state keeps of its batch size; made when it is asked for first."""
    return state.extras.setdefault(NAME, {})


@contextmanager
def scaled_rates(state: TrainState) -> Iterator[None]:
    """Multiply every group's learning rate for the length of a block; afterwards it has the same bits as before.

    So schedules, which may compute the next rate from the present one, never see the factor.
    """
    factor = state.extras.get(NAME, {}).get("lr_factor", 1.0)
    if factor == 1.0:
        yield
        return
    groups = [group for optimizer in state.optimizers for group in optimizer.param_groups]
    rates = [group["lr"] for group in groups]
    for group, rate in zip(groups, rates, strict=True):
        group["lr"] = rate * factor
    try:
        yield
    finally:
        for group, rate in zip(groups, rates, strict=True):
            group["lr"] = rate


def num_ticks(state: TrainState) -> int:
    """How many steps of the first batch size the step under way stands for: so often do schedules move after it."""
    return int(state.extras.get(NAME, {}).get("ticks", 1))


def set_pace(state: TrainState, *, lr_factor: float, step_rows: int, first_rows: int, num_rows: int) -> None:
    """Say what the next step is worth.

    A schedule so ends with the epochs, as it would with the first batch size.

    Args:
        state: before the step.
        lr_factor: of all learning rates.
        step_rows: rows of a step, where the epoch has as many left.
        first_rows: the same with the first batch size; the schedules were made for that.
        num_rows: of an epoch.
    """
    row = state.position.row
    end = min(row + step_rows, num_rows)
    facts_of(state).update(lr_factor=lr_factor, ticks=-(-end // first_rows) - -(-row // first_rows))
