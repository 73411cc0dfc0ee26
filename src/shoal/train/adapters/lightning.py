"""A task from a LightningModule: its own training step, under our loop.

Nothing of Lightning is imported: the module given brings all that is needed.
"""

import copy
import inspect
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from shoal.base import ConfigError, InputError, Json, encode
from shoal.train.adapters.module import name_of, record_settings
from shoal.train.logbook import log
from shoal.train.metrics import Mean, Metric
from shoal.train.schedules import Schedule, Scheduler
from shoal.train.task import Batch, Outputs, Task, count_rows
from shoal.train.worker.micro_batch import present_number

# Hooks that Lightning's loop would call and ours does not.
_UNCALLED = (
    *("on_fit_start", "on_fit_end", "on_train_start", "on_train_end", "on_train_epoch_start", "on_train_epoch_end"),
    *("on_train_batch_start", "on_train_batch_end", "on_validation_start", "on_validation_end"),
    *("on_validation_epoch_start", "on_validation_epoch_end", "on_validation_batch_start", "on_validation_batch_end"),
    *("on_before_zero_grad", "on_before_backward", "on_after_backward", "on_before_optimizer_step", "optimizer_step"),
    *("optimizer_zero_grad", "lr_scheduler_step", "configure_gradient_clipping", "backward", "setup"),
    *("configure_callbacks", "on_save_checkpoint", "on_load_checkpoint", "transfer_batch_to_device"),
    *("on_before_batch_transfer", "on_after_batch_transfer", "configure_model"),
)


@dataclass(frozen=True)
class LightningTask(Task):
    """What `Task.from_lightning` returns."""

    module: Any
    columns: tuple[str, ...] | None
    clip_norm: float | None = None
    autocast: str | torch.dtype | None = None
    compile: bool = False
    ema: float | None = None

    def build(self) -> nn.Module:
        """A copy of the module."""
        built: nn.Module = copy.deepcopy(self.module)
        return built

    def inputs(self, batch: Batch) -> tuple[Any, ...]:
        """The batch as the module's steps take it."""
        if self.columns is not None:
            return (tuple(batch[name] for name in self.columns),)
        # Named so by the feed of a DataLoader whose batches are tuples; a single tensor comes back as one.
        if list(batch) == [str(place) for place in range(len(batch))]:
            return (tuple(batch.values()) if len(batch) > 1 else batch["0"],)
        return (batch,)

    def loss(self, outputs: Outputs, batch: Batch) -> torch.Tensor:
        """What a training step returns, or its "loss"."""
        del batch
        loss = outputs.get("loss") if isinstance(outputs, Mapping) else outputs
        if not isinstance(loss, torch.Tensor):
            raise InputError(
                f"cannot train {name_of(self.module)}: its training_step returned {outputs!r:.200}, expected the loss, "
                'alone or as "loss" of a dict',
                next_step="return it from training_step; a step cannot be skipped",
            )
        return loss

    def optimizers(self, module: nn.Module) -> Sequence[torch.optim.Optimizer]:
        """Those of configure_optimizers."""
        return _configured(module)[0]

    def schedules(
        self, optimizers: Sequence[torch.optim.Optimizer], num_steps: int
    ) -> Sequence[Scheduler | Schedule | None]:
        """Those of configure_optimizers, which was asked once for both."""
        del num_steps
        made: list[Schedule] = getattr(optimizers[0], _SCHEDULES)
        return made

    def compute(self, module: nn.Module, batch: Batch) -> torch.Tensor:
        """One training step. Its `batch_idx` counts the micro-batches of one virtual worker, from 0 in each epoch."""
        with _logging(module):
            outputs = _call(module, "training_step", self.inputs(batch)[0])
        return self.loss(outputs, batch)

    def measure(self, module: nn.Module, batch: Batch) -> Mapping[str, Metric]:
        """One validation step; what it logs is measured, and as the loss what it returns, if it returns one."""
        with _logging(module):
            outputs = _call(module, "validation_step", self.inputs(batch)[0])
        loss = outputs.get("loss") if isinstance(outputs, Mapping) else outputs
        return {"loss": Mean.over(loss.item(), count_rows(batch))} if isinstance(loss, torch.Tensor) else {}

    def record_fields(self) -> dict[str, Json]:
        """For the run's record: the module by its name and hyperparameters."""
        settings: dict[str, Json] = {}
        for name, value in dict(getattr(self.module, "hparams", {})).items():
            try:
                encode(value)
            except InputError:
                value = name_of(value)
            settings[str(name)] = value
        return {
            "module": name_of(self.module),
            "hparams": settings,
            "batch": None if self.columns is None else list(self.columns),
            **record_settings(self),
        }

    def code_parts(self) -> tuple[object, ...]:
        """The module's class."""
        return (type(self.module),)


# Where a configured optimiser carries the schedules that came with it, until they are asked for.
_SCHEDULES = "_configured_schedules"


def task_from(module: object, *, batch: Sequence[str] | None, **settings: Any) -> LightningTask:  # noqa: ANN401 - handed on
    """Return the task, once it is sure that its module can be trained by our loop.

    Raises:
        ConfigError: it cannot; the message says why.
    """
    missing = [name for name in ("training_step", "configure_optimizers") if not _has_own(module, name)]
    if not isinstance(module, nn.Module) or missing:
        raise ConfigError(
            f"cannot train {name_of(module)} as a LightningModule: it has no "
            f"{' and no '.join(missing) or 'parameters'}",
            next_step="give a LightningModule, or wrap a plain module by shoal.Task.of(module, ...)",
        )
    if not getattr(module, "automatic_optimization", True):
        raise ConfigError(
            f"cannot train {name_of(module)}: it optimises by hand (automatic_optimization is False), and steps that "
            "it takes itself would not be shared with other workers",
            next_step="return the loss from training_step, or write a shoal.Task whose compute() returns it",
        )
    if "optimizer_idx" in inspect.signature(module.training_step).parameters:  # type: ignore[arg-type]  # a method
        raise ConfigError(
            f"cannot train {name_of(module)}: its training_step takes optimizer_idx, one loss for each optimiser",
            next_step="return one loss, for which all optimisers step together",
        )
    if uncalled := [name for name in _UNCALLED if _has_own(module, name)]:
        warnings.warn(
            f"{name_of(module)}: {', '.join(uncalled)} will not be called: that is Lightning's loop, and this is "
            "another",
            RuntimeWarning,
            stacklevel=3,
        )
    return LightningTask(module, None if batch is None else tuple(batch), **settings)


def _has_own(module: object, name: str) -> bool:
    """Whether the module's author has written a method, which Lightning's base class merely names."""
    found = getattr(type(module), name, None)
    home = getattr(found, "__module__", "") or ""
    return found is not None and home.partition(".")[0] not in ("lightning", "pytorch_lightning", "torch")


def _call(module: Any, name: str, batch: object) -> Any:  # noqa: ANN401 - whatever the step returns
    if not _has_own(module, name):
        raise ConfigError(
            f"cannot validate {name_of(module)}: it has no {name}",
            next_step=f"define {name}(self, batch, batch_idx), or train without validation",
        )
    step = getattr(module, name)
    wants_number = "batch_idx" in inspect.signature(step).parameters
    return step(batch, present_number()) if wants_number else step(batch)


@contextmanager
def _logging(module: nn.Module) -> Iterator[None]:
    """Have `self.log` write to our logbook; Lightning's own asks for its Trainer."""

    def log_one(name: str, value: Any, *_: object, **__: object) -> None:  # noqa: ANN401 - checked by log
        if hasattr(value, "compute") and not isinstance(value, torch.Tensor):
            raise InputError(
                f"cannot log {name!r}: a {type(value).__name__} keeps its own state, which workers would not share",
                next_step=f"log the number of this batch: self.log({name!r}, metric(outputs, target))",
            )
        log(name, value)

    def log_many(values: Mapping[str, Any], *_: object, **__: object) -> None:
        for name, value in values.items():
            log_one(name, value)

    stand_ins = {"log": log_one, "log_dict": log_many}
    vars(module).update(stand_ins)
    try:
        yield
    finally:
        for name in stand_ins:
            del vars(module)[name]


def _configured(module: Any) -> tuple[list[torch.optim.Optimizer], list[Schedule]]:  # noqa: ANN401 - a LightningModule
    given = module.configure_optimizers()
    optimizers, schedules = _taken_apart(given)
    if not optimizers or not all(isinstance(optimizer, torch.optim.Optimizer) for optimizer in optimizers):
        raise ConfigError(
            f"cannot train {name_of(module)}: configure_optimizers returned {given!r:.200}, expected an optimiser",
            next_step="return one, several, or a dict with optimizer and lr_scheduler",
        )
    made = [_schedule(each) for each in schedules]
    setattr(optimizers[0], _SCHEDULES, made)
    return optimizers, made


def _taken_apart(given: Any) -> tuple[list[Any], list[Any]]:  # noqa: ANN401 - any of the six forms that Lightning takes
    if isinstance(given, Mapping):
        return [given.get("optimizer")], [given["lr_scheduler"]] if given.get("lr_scheduler") else []
    if not isinstance(given, Sequence):
        return [given], []
    if len(given) == 2 and isinstance(given[0], Sequence):
        schedules = given[1] if isinstance(given[1], Sequence) else [given[1]]
        return list(given[0]), list(schedules)
    apart = [_taken_apart(each) for each in given]
    return [each for optimizers, _ in apart for each in optimizers], [each for _, some in apart for each in some]


def _schedule(given: Any) -> Schedule:  # noqa: ANN401 - a scheduler or Lightning's dict of one
    if not isinstance(given, Mapping):
        # Where nothing is said, Lightning moves it after each epoch.
        return Schedule(given, every="epoch")
    watches = isinstance(given["scheduler"], torch.optim.lr_scheduler.ReduceLROnPlateau)
    return Schedule(
        given["scheduler"],
        every=given.get("interval", "epoch"),
        frequency=given.get("frequency", 1),
        monitor=given.get("monitor", "loss") if watches else None,
    )
