"""One process's work on a run, new or resumed: from the settled plan to the result."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from time import monotonic

import torch
from torch import nn

from shoal.base import ConfigError, InputError, file_lock
from shoal.runtime import Runtime
from shoal.store import Run, Store
from shoal.train.checkpoint import Checkpoint
from shoal.train.journal import Journal, Progress
from shoal.train.plan import Plan, open_rows
from shoal.train.supervision import Supervisor
from shoal.train.task import Task


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """A finished run.

    Attributes:
        model: the trained module, in evaluation mode.
        run: the run's id in the store.
        metrics: the last epoch's measures, such as "train.epoch_loss" and "validation.accuracy".
        history: the measures of every epoch, in order.
        checkpoint: the last checkpoint.
        steps: optimiser steps of the whole run.
        samples_per_s: rows trained on per second, start-up and validation not counted.
        seconds: from the call to the result.
        start_up_s: from the call to the first step.
    """

    model: nn.Module
    run: str
    metrics: Mapping[str, float]
    history: Sequence[Mapping[str, float]]
    checkpoint: Checkpoint
    steps: int
    samples_per_s: float
    seconds: float
    start_up_s: float


@dataclass(frozen=True, slots=True)
class Session:
    """A plan, and what of a run may be another the next time; `began` is the caller's own first moment."""

    plan: Plan
    workers: int
    runtime: Runtime
    retries: int
    progress: Callable[[Progress], None] | None
    began: float

    def check(self) -> int:
        """Batches per epoch, once it is sure that the run can start: a run that cannot is not even recorded."""
        plan = self.plan
        plan.strategy.roles(self.workers)
        for ref in (plan.validation, plan.train):
            if ref is not None and not (num_rows := open_rows(ref).num_rows):
                raise InputError(f"cannot train with {ref.address}: it has no rows", next_step="give a larger split")
        return -(-num_rows // plan.batch_size)

    def run(self, store: Store, run: Run, num_batches: int) -> Result:
        """Everything from here on ends up in the run's record."""
        # Two supervisors of one run would write into each other's checkpoints.
        with file_lock(run.folder / "supervisor.lock", blocking=False), run:
            journal = Journal(run=run.id, num_epochs=self.plan.epochs, num_batches=num_batches)
            _recall(journal, store, run.id)
            supervisor = Supervisor(
                self.plan,
                run,
                journal,
                workers=self.workers,
                runtime=self.runtime,
                retries=self.retries,
                progress=self.progress,
            )
            checkpoint = supervisor.see_through()
            history = [journal.history[epoch] for epoch in sorted(journal.history)]
            return Result(
                model=_trained(self.plan.task, checkpoint),
                run=run.id,
                metrics=history[-1],
                history=history,
                checkpoint=checkpoint,
                steps=journal.num_steps,
                samples_per_s=journal.samples_per_s,
                seconds=monotonic() - self.began,
                start_up_s=supervisor.start_up_s or 0.0,
            )


def choose_workers(least: int, most: int, threads: int) -> int:
    """As many workers as there are processors for, within the limits; ConfigError if the limits are none."""
    if not 1 <= least <= most:
        raise ConfigError(
            f"workers=({least}, {most}) must be two numbers, 1 <= least <= most",
            next_step="give one number, or the least and the most",
        )
    # The processors that this process may use, where the system can say; a container often has fewer than the machine.
    num_cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(most, max(least, num_cpus // threads))


def _recall(journal: Journal, store: Store, run_id: str) -> None:
    """Put the epochs that an earlier process has recorded into the history."""
    for name in store.metrics.names(run_id):
        if name == "train.epoch_loss" or name.startswith("validation."):
            for point in store.metrics.curve(run_id, name):
                epoch = point.step // journal.num_batches - 1
                journal.history.setdefault(epoch, {})[name] = point.value


def _trained(task: Task, checkpoint: Checkpoint) -> nn.Module:
    # The caller's own random numbers stay where they were.
    with torch.random.fork_rng(devices=[]):
        model = task.build()
    model.load_state_dict(checkpoint.weights())
    return model.eval()
