"""What to train: a model, its inputs, its loss and its optimiser, written once for any strategy and any runtime."""

import abc
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import import_module
from typing import Any

import torch
from torch import nn

from shoal.base import ConfigError, InputError
from shoal.train.logbook import log
from shoal.train.metrics import Mean, Metric
from shoal.train.schedules import Schedule, Scheduler

Batch = dict[str, torch.Tensor]
Outputs = Any
MakeOptimizer = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]
MakeScheduler = Callable[[torch.optim.Optimizer, int], Scheduler | Schedule | None]


class Task(abc.ABC):
    """A model and how it learns. Subclass it as a frozen dataclass: its fields are recorded with the run.

    A task is built anew in every worker process, from the same seed, so `build` and the other methods must depend on
    the fields and on torch's random numbers alone. Random numbers drawn from torch inside `inputs`, `loss` and the
    model are the same for any number of workers; numbers from elsewhere are not.

    The settings below may be overridden as plain attributes of the class, or as fields.

    Attributes:
        clip_norm: gradients of all parameters together are scaled down to this norm where theirs is larger.
        autocast: "bfloat16" to compute model and loss in that type where torch holds it to be safe.
        compile: run the model through `torch.compile`, once for each size of batch; needs a C++ compiler.
        ema: between 0 and 1: keep an exponential moving average of the weights, which is what is validated and
            returned. Step t counts for `1 - min(ema, (1 + t) / (10 + t))`, so that the first weights are forgotten.
    """

    clip_norm: float | None = None
    autocast: str | torch.dtype | None = None
    compile: bool = False
    ema: float | None = None

    @abc.abstractmethod
    def build(self) -> nn.Module:
        """A fresh model on the CPU, with random weights from torch's generator."""

    @abc.abstractmethod
    def inputs(self, batch: Batch) -> tuple[Any, ...]:
        """What the model's forward takes, in order."""

    @abc.abstractmethod
    def loss(self, outputs: Outputs, batch: Batch) -> torch.Tensor:
        """One number to make small: the mean over the rows of this micro-batch, never a sum."""

    def optimizer(self, params: Iterable[nn.Parameter]) -> torch.optim.Optimizer | Sequence[torch.optim.Optimizer]:
        """The optimiser of these parameters, or several, each of some of them; all step together."""
        del params
        raise ConfigError(
            f"cannot train {type(self).__name__}: it has no optimiser",
            next_step="define optimizer(self, params), or optimizers(self, module) to tell parameters apart by name",
        )

    def optimizers(self, module: nn.Module) -> torch.optim.Optimizer | Sequence[torch.optim.Optimizer]:
        """The optimisers of a model. Override it instead of `optimizer` for groups of parameters by name or layer."""
        return self.optimizer(module.parameters())

    def scheduler(self, optimizer: torch.optim.Optimizer, num_steps: int) -> Scheduler | Schedule | None:
        """A learning rate that moves, or None for a constant one; asked for once per optimiser.

        Args:
            optimizer: whose rate it is.
            num_steps: of the whole run.

        Returns:
            A scheduler that moves after each step, or a `Schedule` that says when else.
        """
        del optimizer, num_steps
        return None

    def schedules(
        self, optimizers: Sequence[torch.optim.Optimizer], num_steps: int
    ) -> Sequence[Scheduler | Schedule | None]:
        """All schedules. Override it instead of `scheduler` where one belongs to no single optimiser."""
        return [self.scheduler(optimizer, num_steps) for optimizer in optimizers]

    def metrics(self, outputs: Outputs, batch: Batch) -> Mapping[str, Metric]:
        """Measures of one validation batch, beside the loss, which is always measured."""
        del outputs, batch
        return {}

    def compute(self, module: nn.Module, batch: Batch) -> torch.Tensor:
        """The loss of one micro-batch. Override it where a model is not simply called once."""
        return self.loss(module(*self.inputs(batch)), batch)

    def measure(self, module: nn.Module, batch: Batch) -> Mapping[str, Metric]:
        """The loss and the other measures of one validation batch; as with `compute`."""
        outputs = module(*self.inputs(batch))
        # First the loss: it must not see what a measure may do to the outputs.
        loss = Mean.over(self.loss(outputs, batch).item(), count_rows(batch))
        found: object = self.metrics(outputs, batch)
        if not isinstance(found, Mapping):
            raise InputError(
                f"cannot validate {type(self).__name__}: metrics returned a {type(found).__name__}, expected a dict",
                next_step='return {"accuracy": shoal.train.accuracy(outputs, batch["label"])}, for example',
            )
        return {"loss": loss, **found}

    def log(self, name: str, value: float | torch.Tensor | Metric) -> None:
        """Inside `loss` and `metrics`: add to a mean that the run reports, as `train.NAME` or `validation.NAME`.

        Args:
            name: the same few at every step.
            value: one number, taken as a mean over this micro-batch's rows; or a measure with its own weight.
        """
        log(name, value)

    @staticmethod
    def of(
        module: nn.Module | Callable[[], nn.Module],
        *,
        inputs: str | Sequence[str],
        target: str,
        loss: Callable[[Any, torch.Tensor], torch.Tensor],
        optimizer: MakeOptimizer,
        metrics: Mapping[str, Callable[[Any, torch.Tensor], Metric]] | None = None,
        scheduler: MakeScheduler | None = None,
        clip_norm: float | None = None,
        autocast: str | torch.dtype | None = None,
        compile: bool = False,
        ema: float | None = None,
    ) -> "Task":
        """A task from an existing module, or from a function that makes one; the module given is left as it is.

        Args:
            module: starts from its present weights when it is a module, from random ones when it is a function.
            inputs: names of the batch's columns that the module's forward takes, in order.
            target: name of the column that loss and metrics compare with.
            loss: from (outputs, target) to the mean over the rows, as `torch.nn.functional.cross_entropy` does.
            optimizer: from parameters to their optimiser.
            metrics: for example `{"accuracy": shoal.train.accuracy}`.
            scheduler: from (optimiser, steps of the run) to its schedule.
            clip_norm: as the attribute of that name.
            autocast: as the attribute of that name.
            compile: as the attribute of that name.
            ema: as the attribute of that name.
        """
        names = (inputs,) if isinstance(inputs, str) else tuple(inputs)
        # By its name, as that file stands on this one.
        wrap = import_module("shoal.train.adapters.module").ModuleTask
        made: Task = wrap(
            module,
            names,
            target,
            loss,
            optimizer,
            dict(metrics or {}),
            scheduler,
            clip_norm=clip_norm,
            autocast=autocast,
            compile=compile,
            ema=ema,
        )
        return made

    @staticmethod
    def from_lightning(
        module: nn.Module,
        *,
        batch: Sequence[str] | None = None,
        clip_norm: float | None = None,
        autocast: str | torch.dtype | None = None,
        compile: bool = False,
        ema: float | None = None,
    ) -> "Task":
        """A task from a LightningModule: its training_step, validation_step, configure_optimizers and self.log.

        It starts from the module's present weights; the module given is left as it is.

        Args:
            module: a LightningModule with automatic optimisation.
            batch: names of the columns that its steps take apart as a tuple, in order; left out, a batch is a dict of
                columns, or a tuple again where it comes from a DataLoader that makes tuples.
            clip_norm: what `Trainer(gradient_clip_val=...)` was told.
            autocast: "bfloat16" for `Trainer(precision="bf16-mixed")`.
            compile: as the attribute of that name.
            ema: as the attribute of that name.

        Raises:
            ConfigError: the module optimises by hand, or has no training_step or configure_optimizers.
        """
        adapter = import_module("shoal.train.adapters.lightning")
        made: Task = adapter.task_from(
            module, batch=batch, clip_norm=clip_norm, autocast=autocast, compile=compile, ema=ema
        )
        return made


def count_rows(batch: Batch) -> int:
    """How many rows a batch has."""
    return len(next(iter(batch.values())))
