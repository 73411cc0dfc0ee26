"""One micro-batch through a task's model: from rows to the loss that autograd can follow."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import nn

from shoal.train.base import TrainState
from shoal.train.logbook import collecting
from shoal.train.task import Batch, Task, count_rows


def compute_loss(state: TrainState, batch: Batch) -> torch.Tensor:
    """Return the mean loss over the rows of one micro-batch, with its graph; what the task logs is kept for the step.

    In the type that the task's `autocast` asks for, and on the device where its model is.
    """
    task, module = state.task, state.module
    batch = to_device(module, batch)
    with collecting(state.logged, count_rows(batch), at_once=False), naming_columns(batch), _casting(task, module):
        return task.compute(module, batch)


@contextmanager
def naming_columns(batch: Batch) -> Iterator[None]:
    """Add to the error of a column that is not there which ones are."""
    try:
        yield
    except KeyError as error:
        if not error.args or error.args[0] in batch:
            raise
        error.add_note(f"the batch has: {', '.join(batch)}")
        if all(name.isdecimal() for name in batch):
            error.add_note("its DataLoader yields tuples: have it yield dicts of columns, from its collate_fn")
        raise


@contextmanager
def measuring(state: TrainState) -> Iterator[None]:
    """Turn the module to how it is measured: evaluation mode, no graph, the task's own precision; then back."""
    module = state.module
    was_training = module.training
    module.eval()
    try:
        with torch.no_grad(), _casting(state.task, module):
            yield
    finally:
        module.train(was_training)


def to_device(module: nn.Module, batch: Batch) -> Batch:
    """Return the batch where the module is."""
    device = device_of(module)
    if device.type == "cpu":
        return batch
    return {name: column.to(device, non_blocking=True) for name, column in batch.items()}


def device_of(module: nn.Module) -> torch.device:
    """Return where a module's first parameter is."""
    return next((param.device for param in module.parameters()), torch.device("cpu"))


def _casting(task: Task, module: nn.Module) -> AbstractContextManager[object]:
    if task.autocast is None:
        return nullcontext()
    # Checked by `check_task`, which knows what is allowed.
    dtype = getattr(torch, task.autocast) if isinstance(task.autocast, str) else task.autocast
    return torch.autocast(device_of(module).type, dtype=dtype)
