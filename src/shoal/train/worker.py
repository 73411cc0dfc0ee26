"""One worker of a run: the loop over epochs and batches, as it runs in its own process."""

import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import monotonic

import torch

from shoal.base import Ref
from shoal.data import Loader
from shoal.runtime import Context
from shoal.train.base import GlobalBatch, PeerLostError, Position, TrainState
from shoal.train.checkpoint import Checkpoint, load_state, write_checkpoint
from shoal.train.environment import describe_environment, differences, set_threads
from shoal.train.gloo import join_group
from shoal.train.light_torch import without_compiler
from shoal.train.metrics import Metric
from shoal.train.plan import Plan, open_rows
from shoal.train.reports import (
    Diverged,
    EpochDone,
    Finished,
    Ready,
    Saved,
    Steps,
    Validated,
    Warned,
    WorkerReport,
    to_message,
)
from shoal.train.task import Batch, Task

# Progress for people: often enough to look alive, seldom enough to cost nothing.
_REPORT_EVERY_S = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Orders:
    """What every worker of one generation is told; `checkpoint` is where it goes on from."""

    plan: Plan
    folder: Path
    port: int
    generation: int
    checkpoint: Checkpoint | None


def build_state(task: Task, *, seed: int, num_steps: int) -> TrainState:
    """A run's first state, the same in every process."""
    torch.default_generator.manual_seed(seed)
    module = task.build()
    with without_compiler():
        optimizer = task.optimizer(module.parameters())
        scheduler = task.scheduler(optimizer, num_steps)
    return TrainState(task=task, module=module, optimizer=optimizer, scheduler=scheduler, position=Position())


@dataclass(slots=True)
class _Pending:
    """Steps since the last report."""

    losses: list[float] = field(default_factory=list)
    rows: int = 0
    wait_s: float = 0.0
    since: float = field(default_factory=monotonic)


@dataclass(frozen=True, slots=True)
class Entry:
    """What the runtime calls in a worker process."""

    orders: Orders

    def __call__(self, context: Context) -> None:
        """Train to the end, or until a peer is lost, which that peer's own exit explains."""
        try:
            Worker(self.orders, context).run()
        except PeerLostError:
            return


class Worker:
    """The state and the loop of one worker."""

    def __init__(self, orders: Orders, context: Context) -> None:
        plan = orders.plan
        set_threads(plan.threads)
        self._plan = plan
        self._folder = orders.folder
        self._context = context
        self._environment = describe_environment()
        self._train = _loader(plan.train, plan, shuffle=True)
        self._validation = None if plan.validation is None else _loader(plan.validation, plan, shuffle=False)
        self._state = build_state(plan.task, seed=plan.seed, num_steps=plan.epochs * len(self._train))
        if orders.checkpoint is not None:
            load_state(orders.checkpoint, self._state)
            self._compare_environment(orders.checkpoint)
        self._group = join_group(
            port=orders.port, generation=orders.generation, rank=context.rank, size=context.world_size
        )
        self._stepper = plan.strategy.join(self._state, self._group, seed=plan.seed, num_parts=plan.num_parts)
        self._saved = (self._state.position.step if orders.checkpoint else -1, monotonic())
        self._pending = _Pending()

    def run(self) -> None:
        """Every epoch that is left: its steps, its checkpoint, its validation."""
        self._report(Ready(step=self._state.position.step))
        while True:
            if not self._finish_epoch():
                return
            position = self._state.position
            is_last = position.epoch + 1 == self._plan.epochs
            self._save(must=is_last)
            self._validate()
            if is_last:
                break
            self._state.position = Position(epoch=position.epoch + 1, step=position.step)
        self._tell(Finished(step=self._state.position.step))

    def _finish_epoch(self) -> bool:
        """Train on what is left of the epoch; False when the run ends here."""
        self._state.module.train()
        self._pending = _Pending()
        for index in range(self._state.position.batch, len(self._train)):
            loss = self._step(index)
            position = self._state.position
            if not math.isfinite(loss):
                self._report_steps()
                self._report(Diverged(epoch=position.epoch, step=position.step + 1, loss=loss))
                return False
            self._pending.losses.append(loss)
            self._pending.rows += self._train.num_rows(index)
            if monotonic() - self._pending.since >= _REPORT_EVERY_S:
                self._report_steps()
            if self._is_told_to_stop():
                return False
            self._save_when_due()
        self._report_steps()
        position = self._state.position
        mean = position.loss_sum / position.rows
        self._report(EpochDone(epoch=position.epoch, step=position.step, loss=mean))
        return True

    def _step(self, index: int) -> float:
        position = self._state.position
        num_rows = self._train.num_rows(index)

        def read(part: int, num_parts: int) -> Batch:
            began = monotonic()
            batch: Batch = self._train.micro_batch(position.epoch, index, part, num_parts)
            self._pending.wait_s += monotonic() - began
            return batch

        plan = self._plan
        batch = GlobalBatch.of(num_rows, batch_size=plan.batch_size, num_parts=plan.num_parts, read=read)
        loss = self._stepper.step(batch)
        if math.isfinite(loss):
            self._state.position = replace(
                position,
                batch=index + 1,
                step=position.step + 1,
                loss_sum=position.loss_sum + loss * num_rows,
                rows=position.rows + num_rows,
            )
        return loss

    def _validate(self) -> None:
        """Measure this worker's share of the validation batches; who measures which changes no number."""
        if self._validation is None:
            return
        task, module = self._plan.task, self._state.module
        module.eval()
        parts: dict[str, list[tuple[float, float]]] = {}
        with torch.no_grad():
            for index in range(self._context.rank, len(self._validation), self._context.world_size):
                batch: Batch = self._validation.micro_batch(0, index, 0, 1)
                outputs = module(*task.inputs(batch))
                num_rows = self._validation.num_rows(index)
                measured: dict[str, Metric] = dict(task.metrics(outputs, batch))
                sums = {name: (float(metric.total), float(metric.weight)) for name, metric in measured.items()}
                sums["loss"] = (task.loss(outputs, batch).item() * num_rows, float(num_rows))
                for name, pair in sums.items():
                    parts.setdefault(name, []).append(pair)
        position = self._state.position
        self._tell(Validated(epoch=position.epoch, step=position.step, parts=parts))

    def _save_when_due(self) -> None:
        plan, position = self._plan, self._state.position
        step, time = self._saved
        due_by_steps = plan.every_steps is not None and position.step % plan.every_steps == 0
        due_by_time = plan.every_s is not None and monotonic() - time >= plan.every_s
        # At the end of an epoch one is written anyway.
        if (due_by_steps or due_by_time) and position.step != step and position.batch < len(self._train):
            self._save(must=False)

    def _save(self, *, must: bool) -> None:
        """Write a checkpoint, from one worker alone, as all hold the same; a failure stops the run only if it must."""
        position = self._state.position
        if self._context.rank or self._saved[0] == position.step:
            return
        # Before the checkpoint: whoever goes on from it will not do these steps again.
        self._report_steps()
        try:
            checkpoint = write_checkpoint(self._folder, self._state, self._environment)
        except OSError as error:
            if must:
                raise
            self._report(Warned(text=f"no checkpoint at step {position.step}: {error}"))
            self._saved = (self._saved[0], monotonic())
            return
        self._saved = (position.step, monotonic())
        self._report(Saved(step=position.step, path=checkpoint.address, digest=checkpoint.digest))

    def _is_told_to_stop(self) -> bool:
        # Only the one that writes checkpoints heeds it, between two steps; the others lose their peer and follow.
        if self._context.rank or not self._context.stopping.is_set():
            return False
        self._save(must=False)
        return True

    def _compare_environment(self, checkpoint: Checkpoint) -> None:
        changes = differences(checkpoint.environment, self._environment)
        if changes:
            self._report(Warned(text=f"other bits than without the interruption may come: {'; '.join(changes)}"))

    def _report_steps(self) -> None:
        """Tell the steps that nobody was told of yet."""
        done, self._pending = self._pending, _Pending()
        if done.losses:
            position = self._state.position
            self._report(
                Steps(
                    epoch=position.epoch,
                    first_step=position.step - len(done.losses) + 1,
                    losses=done.losses,
                    rows=done.rows,
                    seconds=monotonic() - done.since,
                    wait_s=done.wait_s,
                )
            )

    def _report(self, report: WorkerReport) -> None:
        """Tell what all workers know alike, once."""
        if self._context.rank == 0:
            self._tell(report)

    def _tell(self, report: WorkerReport) -> None:
        self._context.report(to_message(report))


def _loader(ref: Ref, plan: Plan, *, shuffle: bool) -> Loader:
    dataset = open_rows(ref)
    return dataset.loader(batch_size=plan.batch_size, shuffle=shuffle, seed=plan.seed, format="torch")
