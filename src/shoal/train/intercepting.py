"""Standing between a step and the function that a task computes its loss with."""

import copy
import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import nn

from shoal.train.adapters.module import ModuleTask
from shoal.train.base import TrainState
from shoal.train.task import Task

# From (the function, its arguments by place, those by name) to what the function returns.
Watch = Callable[[Callable[..., Any], tuple[Any, ...], Mapping[str, Any]], Any]


@contextmanager
def intercepting(state: TrainState, watch: Watch) -> Iterator[None]:
    """Have `watch` call the user's own function while the block runs.

    It is the task's `loss`; or its `compute`, if it has one of its own; or the loss given to `Task.of`; or a
    LightningModule's `training_step`: always the place where a user's own code begins.
    """
    task, module = state.task, state.module
    if isinstance(task, ModuleTask):
        state.task = dataclasses.replace(task, compute_loss=_through(watch, task.compute_loss))
    elif type(task).compute is Task.compute:
        state.task = _with_method(task, "loss", watch)
    elif _has_training_step(module):
        own: Any = module.training_step
        # Beside the class's own, and taken away again below.
        object.__setattr__(module, "training_step", _through(watch, own))
    else:
        state.task = _with_method(task, "compute", watch)
    try:
        yield
    finally:
        state.task = task
        vars(module).pop("training_step", None)


def _through(watch: Watch, function: Callable[..., Any]) -> Callable[..., Any]:
    # With its signature: adapters look at how many arguments it takes.
    @functools.wraps(function)
    def watched(*args: Any, **named: Any) -> Any:  # noqa: ANN401  # whatever the user's function takes and gives
        return watch(function, args, named)

    return watched


def _with_method(task: Task, name: str, watch: Watch) -> Task:
    """A copy of the task whose method goes through `watch`; also where the task is frozen or has slots."""
    method = getattr(task, name)
    kind: Any = type(task)
    members = {"__slots__": (), name: lambda _, *args, **named: watch(method, args, named)}
    watched = type(kind)(kind.__name__, (kind,), members)
    copied = copy.copy(task)
    object.__setattr__(copied, "__class__", watched)
    return copied


def _has_training_step(module: nn.Module) -> bool:
    return callable(getattr(module, "training_step", None)) and "training_step" not in vars(module)
