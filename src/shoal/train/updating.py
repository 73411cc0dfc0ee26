"""What follows once every parameter has its gradient: the optimisers' step, and what depends on it."""

from collections.abc import Mapping

import torch

from shoal.train.averaging import move_average
from shoal.train.base import TrainState
from shoal.train.batch_size.rates import num_ticks, scaled_rates
from shoal.train.light_torch import without_compiler


def update(state: TrainState) -> None:
    """Take one optimiser step with the gradients that the parameters hold: clip, step, move schedules and average.

    Every member does the same with the same bits, so nothing is exchanged.
    """
    with without_compiler(), scaled_rates(state):
        if state.task.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(state.module.parameters(), state.task.clip_norm)
        for optimizer in state.optimizers:
            optimizer.step()
    for scheduler in state.schedulers:
        for _ in range(num_ticks(state)):
            scheduler.after_step()
    move_average(state)
    state.logged.commit()


def end_epoch(state: TrainState, values: Mapping[str, float]) -> None:
    """Move the schedules that move by epochs. Call it in one with moving the position to the next epoch.

    Args:
        state: after the epoch's last step.
        values: what the epoch's validation found, by name, the same on every member; empty without validation.
    """
    for scheduler in state.schedulers:
        scheduler.after_epoch(values)
