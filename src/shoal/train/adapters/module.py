"""A task from a module that is there already, with its loss and its optimiser given by hand."""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from shoal.base import InputError, Json
from shoal.train.metrics import Metric
from shoal.train.schedules import Schedule, Scheduler
from shoal.train.task import Batch, MakeOptimizer, MakeScheduler, Outputs, Task


@dataclass(frozen=True)
class ModuleTask(Task):
    """What `Task.of` returns: the parts of a task, each given by hand."""

    module: nn.Module | Callable[[], nn.Module]
    columns: tuple[str, ...]
    target: str
    compute_loss: Callable[[Any, torch.Tensor], torch.Tensor]
    make_optimizer: MakeOptimizer
    measures: dict[str, Callable[[Any, torch.Tensor], Metric]]
    make_scheduler: MakeScheduler | None = None
    clip_norm: float | None = None
    autocast: str | torch.dtype | None = None
    compile: bool = False
    ema: float | None = None

    def build(self) -> nn.Module:
        """A copy of the module, or whatever the function makes."""
        if isinstance(self.module, nn.Module):
            return copy.deepcopy(self.module)
        made: object = self.module()
        if not isinstance(made, nn.Module):
            raise InputError(
                f"cannot train what {name_of(self.module)} makes: it is a {type(made).__name__}, expected a module",
                next_step="return a torch.nn.Module from the function given to Task.of",
            )
        return made

    def inputs(self, batch: Batch) -> tuple[torch.Tensor, ...]:
        """The named columns."""
        return tuple(batch[name] for name in self.columns)

    def loss(self, outputs: Outputs, batch: Batch) -> torch.Tensor:
        """The given loss against the target column."""
        return self.compute_loss(outputs, batch[self.target])

    def optimizers(self, module: nn.Module) -> torch.optim.Optimizer:
        """The given optimiser."""
        return self.make_optimizer(module.parameters())

    def scheduler(self, optimizer: torch.optim.Optimizer, num_steps: int) -> Scheduler | Schedule | None:
        """The given schedule."""
        return self.make_scheduler(optimizer, num_steps) if self.make_scheduler else None

    def metrics(self, outputs: Outputs, batch: Batch) -> Mapping[str, Metric]:
        """The given measures against the target column."""
        return {name: measure(outputs, batch[self.target]) for name, measure in self.measures.items()}

    def record_fields(self) -> dict[str, Json]:
        """For the run's record: the parts by their names, as functions have no JSON form."""
        return {
            "module": name_of(self.module),
            "inputs": list(self.columns),
            "target": self.target,
            "loss": name_of(self.compute_loss),
            "optimizer": name_of(self.make_optimizer),
            "metrics": sorted(self.measures),
            "scheduler": name_of(self.make_scheduler) if self.make_scheduler else None,
            **record_settings(self),
        }

    def code_parts(self) -> tuple[object, ...]:
        """What its code is made of."""
        module = type(self.module) if isinstance(self.module, nn.Module) else self.module
        scheduler = (self.make_scheduler,) if self.make_scheduler else ()
        return (module, self.compute_loss, self.make_optimizer, *self.measures.values(), *scheduler)


def record_settings(task: Task) -> dict[str, Json]:
    """The settings that every task has, where they are not as they come."""
    return {
        name: str(value).removeprefix("torch.") if isinstance(value, torch.dtype) else value
        for name in ("clip_norm", "autocast", "compile", "ema")
        if (value := getattr(task, name)) != getattr(Task, name)
    }


def name_of(part: object) -> str:
    """The module and name of a function or class, or of an object's class."""
    named = part if hasattr(part, "__qualname__") else type(part)
    return f"{named.__module__}:{getattr(named, '__qualname__', '?')}"
