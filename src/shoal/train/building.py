"""A run's first state, the same in every process, from a task and a seed."""

from collections.abc import Callable, Sequence

import torch
from torch import nn

from shoal.base import ConfigError, InputError, UnsupportedError
from shoal.train.averaging import apply_average, begin_average
from shoal.train.base import Position, TrainState
from shoal.train.light_torch import without_compiler
from shoal.train.random_streams import seed_generators
from shoal.train.schedules import Schedule
from shoal.train.task import Task

# float16 would need its loss scaled by a number that moves with what overflowed before: another state, another risk.
_AUTOCAST = ("bfloat16", torch.bfloat16)


def check_task(task: Task) -> None:
    """Say what is wrong with a task's settings before anything is started.

    Raises:
        ConfigError: a setting is out of range.
    """
    if task.clip_norm is not None and not task.clip_norm > 0:
        raise ConfigError(f"clip_norm={task.clip_norm} must be > 0", next_step="leave it out to clip nothing")
    if task.ema is not None and not 0 < task.ema < 1:
        raise ConfigError(f"ema={task.ema} must lie between 0 and 1", next_step="0.999 averages over about 1,000 steps")
    if task.autocast is not None and task.autocast not in _AUTOCAST:
        raise ConfigError(
            f"autocast={task.autocast!r} must be 'bfloat16', which needs no scaling of the loss",
            next_step="use 'bfloat16', or leave it out for float32",
        )


def build_state(
    task: Task, *, seed: int, num_steps: int, compiled: bool = True, device: torch.device | None = None
) -> TrainState:
    """Build model, optimisers and schedules, with random numbers from the seed alone.

    Args:
        task: what to train.
        seed: of the run.
        num_steps: of the whole run, for the schedules.
        compiled: whether the task's wish to be compiled is heeded.
        device: where the model goes once it is built on the CPU, with the same first weights everywhere; unless the
            task has put some of it elsewhere itself. None leaves it where it is.

    Raises:
        ConfigError: a setting of the task is wrong, or it has no optimiser.
        InputError: what it builds is no module.
        UnsupportedError: the task asks for compilation where no compiler is.
    """
    check_task(task)
    device = device or torch.device("cpu")
    seed_generators(seed, [device])
    module = _placed(_built(task), device)
    with without_compiler():
        optimizers = _optimizers(task, module)
        schedules = [Schedule.of(made) for made in task.schedules(optimizers, num_steps) if made is not None]
    state = TrainState(task=task, module=module, optimizers=optimizers, schedulers=schedules, position=Position())
    begin_average(state)
    if task.compile and compiled:
        _compile(module)
    return state


def trained_module(task: Task, *, num_steps: int, load: Callable[[TrainState], None]) -> nn.Module:
    """Return the module of a run that is over, in evaluation mode; with the average of its weights, if it has one.

    Args:
        task: what was trained.
        num_steps: of the whole run.
        load: overwrites a state with that of the last checkpoint.
    """
    # The caller's own random numbers stay where they were.
    with torch.random.fork_rng(devices=[]):
        state = build_state(task, seed=0, num_steps=num_steps, compiled=False)
    load(state)
    apply_average(state)
    return state.module.eval()


def _built(task: Task) -> nn.Module:
    module = task.build()
    if not isinstance(module, nn.Module):
        raise InputError(
            f"cannot train {type(task).__name__}: build() returned {type(module).__name__}, expected a module",
            next_step="return a torch.nn.Module from build()",
        )
    return module


def _placed(module: nn.Module, device: torch.device) -> nn.Module:
    tensors = [*module.parameters(), *module.buffers()]
    is_placed = any(tensor.device.type != "cpu" for tensor in tensors)
    return module if is_placed or device.type == "cpu" else module.to(device)


def _optimizers(task: Task, module: nn.Module) -> list[torch.optim.Optimizer]:
    made = task.optimizers(module)
    optimizers = list(made) if isinstance(made, Sequence) else [made]
    if not optimizers or not all(isinstance(optimizer, torch.optim.Optimizer) for optimizer in optimizers):
        raise ConfigError(
            f"cannot train {type(task).__name__} with the optimisers {made!r:.200}: expected one of torch's, or some",
            next_step="return torch.optim.AdamW(params, lr=1e-3), for example",
        )
    return optimizers


def _compile(module: nn.Module) -> None:
    # Only here: they take as long to load as all the rest of torch.
    import torch._dynamo.config as limits
    import torch._inductor.cpp_builder as builder

    try:
        builder.get_cpp_compiler()
    except RuntimeError as error:
        raise UnsupportedError(
            f"cannot compile {type(module).__name__}: torch finds no C++ compiler ({error})",
            next_step="install one, such as g++, or leave compile out",
        ) from error
    # A kernel for each size and none for "any size": which of the two a size gets would depend on the sizes that this
    # process met before, and so would the bits. Past torch's own limit of 8 it would go on uncompiled, for the same
    # reason no choice.
    limits.recompile_limit = 1024
    limits.accumulated_recompile_limit = 1 << 16
    module.compile(dynamic=False)
