"""The exponential moving average of a task's weights: kept beside them, measured and returned in their place."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from shoal.train.base import TrainState

_NAME = "ema"


def begin_average(state: TrainState) -> None:
    """Start the average at the present weights, where the task asks for one."""
    if state.task.ema is not None:
        state.extras[_NAME] = {name: param.detach().clone() for name, param in _learned(state).items()}


def move_average(state: TrainState) -> None:
    """Move the average towards the weights that a step has just led to; the position is that before the step."""
    if state.task.ema is None:
        return
    step = state.position.step
    decay = min(state.task.ema, (1 + step) / (10 + step))
    with torch.no_grad():
        average = state.extras[_NAME]
        params = _learned(state)
        # A checkpoint is read into host memory: the optimisers move what is theirs to the weights, and this does here.
        average.update(
            {name: average[name].to(param.device) for name, param in params.items() if _is_apart(average[name], param)}
        )
        # All at once: as one call per parameter it takes longer than the optimiser's own step.
        torch._foreach_lerp_([average[name] for name in params], list(params.values()), 1 - decay)


def apply_average(state: TrainState) -> None:
    """Put the average in the weights' place, where the task asks for one: for a run that is over."""
    if state.task.ema is not None:
        with torch.no_grad():
            for name, param in _learned(state).items():
                param.copy_(state.extras[_NAME][name])


@contextmanager
def averaged(state: TrainState) -> Iterator[None]:
    """Have the average in the weights' place while the block runs; the weights come back bit for bit."""
    if state.task.ema is None:
        yield
        return
    params = _learned(state)
    kept = {name: param.detach().clone() for name, param in params.items()}
    apply_average(state)
    try:
        yield
    finally:
        with torch.no_grad():
            for name, param in params.items():
                param.copy_(kept[name])


def _is_apart(average: torch.Tensor, param: torch.Tensor) -> bool:
    return average.device != param.device


def _learned(state: TrainState) -> dict[str, torch.Tensor]:
    return {
        name: param
        for name, param in state.module.named_parameters()
        if param.requires_grad and param.is_floating_point()
    }
