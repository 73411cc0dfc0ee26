"""What to train: a model, its inputs, its loss and its optimiser, written once for any strategy and any runtime."""

import abc
import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from shoal.train.metrics import Metric

Batch = dict[str, torch.Tensor]
Outputs = Any
MakeOptimizer = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]


class Task(abc.ABC):
    """A model and how it learns. Subclass it as a frozen dataclass: its fields are recorded with the run.

    A task is built anew in every worker process, from the same seed, so `build` and the other methods must depend on
    the fields and on torch's random numbers alone. Random numbers drawn from torch inside `inputs`, `loss` and the
    model are the same for any number of workers; numbers from elsewhere are not.
    """

    @abc.abstractmethod
    def build(self) -> nn.Module:
        """A fresh model on the CPU, with random weights from torch's generator."""

    @abc.abstractmethod
    def inputs(self, batch: Batch) -> tuple[torch.Tensor, ...]:
        """What the model's forward takes, in order."""

    @abc.abstractmethod
    def loss(self, outputs: Outputs, batch: Batch) -> torch.Tensor:
        """One number to make small: the mean over the rows of this micro-batch, never a sum."""

    @abc.abstractmethod
    def optimizer(self, params: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """The optimiser of these parameters."""

    def scheduler(
        self, optimizer: torch.optim.Optimizer, num_steps: int
    ) -> torch.optim.lr_scheduler.LRScheduler | None:
        """A learning rate that moves after each of the run's `num_steps` steps, or None for a constant one."""
        del optimizer, num_steps
        return None

    def metrics(self, outputs: Outputs, batch: Batch) -> Mapping[str, Metric]:
        """Measures of one validation batch, beside the loss, which is always measured."""
        del outputs, batch
        return {}

    @staticmethod
    def of(
        module: nn.Module | Callable[[], nn.Module],
        *,
        inputs: str | Sequence[str],
        target: str,
        loss: Callable[[Any, torch.Tensor], torch.Tensor],
        optimizer: MakeOptimizer,
        metrics: Mapping[str, Callable[[Any, torch.Tensor], Metric]] | None = None,
    ) -> "Task":
        """A task from an existing module, or from a function that makes one; the module given is left as it is.

        Args:
            module: starts from its present weights when it is a module, from random ones when it is a function.
            inputs: names of the batch's columns that the module's forward takes, in order.
            target: name of the column that loss and metrics compare with.
            loss: from (outputs, target) to the mean over the rows, as `torch.nn.functional.cross_entropy` does.
            optimizer: from parameters to their optimiser.
            metrics: for example `{"accuracy": shoal.train.accuracy}`.
        """
        names = (inputs,) if isinstance(inputs, str) else tuple(inputs)
        return ModuleTask(module, names, target, loss, optimizer, dict(metrics or {}))


@dataclass(frozen=True)
class ModuleTask(Task):
    """What `Task.of` returns: the parts of a task, each given by hand."""

    module: nn.Module | Callable[[], nn.Module]
    columns: tuple[str, ...]
    target: str
    compute_loss: Callable[[Any, torch.Tensor], torch.Tensor]
    make_optimizer: MakeOptimizer
    measures: dict[str, Callable[[Any, torch.Tensor], Metric]]

    def build(self) -> nn.Module:
        """A copy of the module, or whatever the function makes."""
        return copy.deepcopy(self.module) if isinstance(self.module, nn.Module) else self.module()

    def inputs(self, batch: Batch) -> tuple[torch.Tensor, ...]:
        """The named columns."""
        return tuple(batch[name] for name in self.columns)

    def loss(self, outputs: Outputs, batch: Batch) -> torch.Tensor:
        """The given loss against the target column."""
        return self.compute_loss(outputs, batch[self.target])

    def optimizer(self, params: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """The given optimiser."""
        return self.make_optimizer(params)

    def metrics(self, outputs: Outputs, batch: Batch) -> Mapping[str, Metric]:
        """The given measures against the target column."""
        return {name: measure(outputs, batch[self.target]) for name, measure in self.measures.items()}
