"""Training a task on a dataset, from the call to the trained module."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import shoal.store as stores
from shoal.base import NotFoundError, Ref
from shoal.data import Dataset
from shoal.runtime import Runtime, open_runtime
from shoal.store import Run, Store
from shoal.train.base import Strategy
from shoal.train.batch_size.settings import AdaptiveBatch
from shoal.train.callbacks import Callback
from shoal.train.checking import board_names, check_columns, check_stopping, check_task_given
from shoal.train.collective import Collective
from shoal.train.defaults import AUTO, choose_workers, recorded_device, recorded_workers, usual_batch_size
from shoal.train.device import check_device
from shoal.train.early_stopping import EarlyStopping
from shoal.train.elastic.membership import Rules
from shoal.train.environment import describe_environment
from shoal.train.journal import Progress
from shoal.train.plan import Plan, Source
from shoal.train.ranks import once_per_job
from shoal.train.record import task_code, warn_of_lost_settings, warn_of_other_code
from shoal.train.session import Result, Session, replayed_schedule, source_of
from shoal.train.task import Task

if TYPE_CHECKING:
    from torch.utils.data import DataLoader

Rows: TypeAlias = "Dataset | DataLoader[Any]"

# Virtual workers of a run that adapts: the noise shows in how their gradients differ.
_LEAST_TO_MEASURE = 2


@once_per_job
def fit(
    task: Task,
    train: "Rows",
    *,
    validation: "Rows | None" = None,
    epochs: int = 1,
    max_steps: int | None = None,
    batch_size: int | AdaptiveBatch | None = None,
    seed: int = 0,
    strategy: Strategy | None = None,
    workers: int | tuple[int, int] = 1,
    threads: int = 1,
    device: str | None = None,
    runtime: str | Runtime = "local",
    store: Store | None = None,
    name: str | None = None,
    accumulate: int = 1,
    validate_every_steps: int | None = None,
    early_stopping: EarlyStopping | None = None,
    callbacks: Sequence[Callback] = (),
    checkpoint_every_steps: int | None = None,
    checkpoint_every_s: float | None = None,
    keep_checkpoints: int = 2,
    keep_checkpoints_s: float | None = None,
    checkpoints_to: str | None = None,
    report_to: str | Sequence[str] = (),
    retries: int = 2,
    heartbeat_s: float = 10.0,
    step_timeout_s: float = 600.0,
    replay: str | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Result:
    """Train a task in worker processes, validate after each epoch, and return the trained module.

    The same task, dataset version, seed, batch size, number of virtual workers, and threads give the same weights, bit
    for bit, whatever the number of workers and however often they die or the run is resumed. When a worker dies the
    others go on at once, without doing a finished step again, and another one is started in its place. A checkpoint is
    written at the end of each epoch that took a second or more. On Ctrl-C one is written too; the run is cancelled and
    can be resumed.

    Args:
        task: what to train.
        train: rows to learn from; each once per epoch, in an order that depends on the seed and the epoch. Or a torch
            DataLoader, with fewer promises, which are printed.
        validation: rows to measure on; their number of batches is shared by the workers.
        epochs: passes over the rows.
        max_steps: end after so many steps, if the epochs do not end before.
        batch_size: rows per batch, over all workers; the last of an epoch may have fewer. Or an `AdaptiveBatch`: as its
            sizes follow measured times, the bits are then the same only with `replay`. Left out, it is 64, or a
            DataLoader's own.
        seed: of weights, order and every random number that torch draws in the task.
        strategy: `Collective()` unless given; with two virtual workers at least where the batch size adapts.
        workers: processes. With one number the run goes on with fewer while a dead one is replaced; with (least, most)
            it takes as many as the machine has processors for, and pauses while there are fewer than the least.
        threads: of each worker.
        device: where workers compute: "cpu", "cuda" or one GPU, as in "cuda:1". Left out, a GPU where torch finds one,
            else the CPU; several workers on one host spread over its GPUs. Other bits come of another device.
        runtime: where they run. With "env" every rank of a torchrun or Slurm job makes this call and gets its result;
            there are as many workers as ranks unless `workers` says otherwise.
        store: where the run is recorded; the nearest `.shoal` unless given.
        name: of the run; the task's class unless given.
        accumulate: batches per step.
        validate_every_steps: validate also after so many steps.
        early_stopping: when to stop before the last epoch; the result's model is then that of the best validation.
        callbacks: called after steps and validations, in the first worker.
        checkpoint_every_steps: write checkpoints also after so many steps.
        checkpoint_every_s: write checkpoints also after so many seconds.
        keep_checkpoints: how many of the newest are kept.
        keep_checkpoints_s: those older than so many seconds are removed, however few they are; never the newest.
        checkpoints_to: a folder or the URL of an object store that runs may share: each makes a folder named by its id
            in it. Every worker must reach it. Left out, it is the run's own folder.
        report_to: where metrics go beside the store: "tensorboard", "wandb", or a list of them.
        retries: how often in a row workers may die without a finished step in between.
        heartbeat_s: a worker that is silent for so long is taken for dead.
        step_timeout_s: so is one that computes one step for so long.
        replay: id of a run whose batch sizes and learning rates are used again, from the same steps on, in place of
            `batch_size`. All else being equal, the weights are those of that run, bit for bit.
        progress: called a few times per second, in the calling thread.

    Raises:
        ConfigError: a setting is wrong.
        InputError: there are no rows, or an argument is of another kind than it must be.
        WorkerError: the task raised in a worker, or its loss is not one number; the traceback comes with it. Or workers
            died too often.
        StorageFullError, RemoteError: the last checkpoint could not be written.
        DivergedError: a loss was not finite; the error names the step, the rows and the last checkpoint.
    """
    began = monotonic()
    least, most = (workers, workers) if isinstance(workers, int) else workers
    task = check_task_given(task)
    device = check_device(device)
    check_stopping(early_stopping, is_validated=validation is not None)
    batch_size = usual_batch_size(train) if batch_size is None else batch_size
    with ExitStack() as stack:
        if replay is not None:
            store = store or stack.enter_context(stores.open())
        strategy = strategy or _usual_strategy(batch_size, most, store, replay)
        plan = Plan(
            task=task,
            strategy=strategy,
            train=source_of(train),
            validation=None if validation is None else source_of(validation),
            epochs=epochs,
            max_steps=max_steps,
            batch_size=batch_size,
            seed=seed,
            num_parts=strategy.num_parts(most),
            accumulate=accumulate,
            threads=threads,
            schedule=tuple(replayed_schedule(store, replay)) if store and replay else (),
            **_watching(validate_every_steps, early_stopping, callbacks),
            **_saving(checkpoint_every_steps, checkpoint_every_s, keep_checkpoints, keep_checkpoints_s, checkpoints_to),
        )
        check_columns(task, train, validation)
        rules = _rules(workers, choose_workers(least, most, threads), retries, heartbeat_s, step_timeout_s)
        session = Session(plan, rules, open_runtime(runtime), board_names(report_to), progress, began, device)
        # Asked before there is a record: a run that cannot start leaves none.
        num_rows = session.check()
        store = store or stack.enter_context(stores.open())
        asked = {"workers": f"{least}-{most}", "device": device or AUTO}
        return session.run(store, _record(plan, store, name, asked), num_rows)


@once_per_job
def resume(
    run_id: str,
    *,
    store: Store | None = None,
    task: Task | None = None,
    train: "Rows | None" = None,
    validation: "Rows | None" = None,
    callbacks: Sequence[Callback] | None = None,
    workers: int | tuple[int, int] | None = None,
    device: str | None = None,
    runtime: str | Runtime = "local",
    report_to: str | Sequence[str] = (),
    retries: int = 2,
    heartbeat_s: float = 10.0,
    step_timeout_s: float = 600.0,
    progress: Callable[[Progress], None] | None = None,
) -> Result:
    """Go on with a run that was interrupted, from its last good checkpoint, to the weights it would have had.

    Args:
        run_id: as `Result.run` or `shoal run list` give it.
        store: where the run is recorded; the nearest `.shoal` unless given.
        task: the run's task, needed where its class cannot be imported by name, as with `Task.of`.
        train: the DataLoader that the run had in place of a dataset, if it had one.
        validation: the same.
        callbacks: the run's callbacks, needed where their classes cannot be imported by name.
        workers: as in `fit`; left out, as the run was started with. Another number changes the time alone.
        device: as in `fit`; left out, as the run was started with. On another one a warning says from where on other
            bits may come.
        runtime: as in `fit`.
        report_to: as in `fit`.
        retries: as in `fit`.
        heartbeat_s: as in `fit`.
        step_timeout_s: as in `fit`.
        progress: as in `fit`.

    Raises:
        NotFoundError: no such run, or it is no training run.
        ConflictError: another process works on it.
        ConfigError: the task cannot be built from the record, or is another one.
        CorruptError: the dataset is not what it was.
    """
    began = monotonic()
    with ExitStack() as stack:
        store = store or stack.enter_context(stores.open())
        record = store.runs.get(run_id)
        if record.kind != "train":
            raise NotFoundError(
                f"cannot resume {run_id}: it is a run of kind {record.kind!r}, expected 'train'",
                next_step="shoal run list --kind train",
            )
        plan = Plan.from_json(
            cast("Mapping[str, object]", record.config), task=task, callbacks=callbacks, **_given(train, validation)
        )
        warn_of_other_code(record, plan.task, "other weights will come of it")
        workers = recorded_workers(store, record) if workers is None else workers
        least, most = (workers, workers) if isinstance(workers, int) else workers
        count = min(choose_workers(least, most, plan.threads), max(plan.num_parts, least))
        rules = _rules(workers, count, retries, heartbeat_s, step_timeout_s)
        device = check_device(device or recorded_device(record))
        session = Session(plan, rules, open_runtime(runtime), board_names(report_to), progress, began, device)
        num_rows = session.check()
        return session.run(store, store.runs.resume(run_id), num_rows)


def _watching(
    every_steps: int | None, early_stopping: EarlyStopping | None, callbacks: Sequence[Callback]
) -> dict[str, Any]:
    return {"validate_every_steps": every_steps, "early_stopping": early_stopping, "callbacks": tuple(callbacks)}


def _saving(
    every_steps: int | None, every_s: float | None, keep: int, keep_s: float | None, to: str | None
) -> dict[str, Any]:
    return {"every_steps": every_steps, "every_s": every_s, "keep": keep, "keep_s": keep_s, "checkpoints_to": to}


def _rules(workers: int | tuple[int, int], most: int, retries: int, heartbeat_s: float, step_timeout_s: float) -> Rules:
    """With one number the run goes on with fewer while a dead worker is replaced."""
    return Rules(
        least=1 if isinstance(workers, int) else min(workers[0], most),
        most=most,
        retries=retries,
        heartbeat_s=heartbeat_s,
        step_timeout_s=step_timeout_s,
    )


def _record(plan: Plan, store: Store, name: str | None, asked: Mapping[str, str]) -> Run:
    """Begin the run's record, with what was asked for beside the plan."""
    warn_of_lost_settings(plan.task)
    dataset = plan.train if isinstance(plan.train, Ref) else None
    run = store.runs.start(
        kind="train",
        name=name or type(plan.task).__name__,
        config=plan.to_json(),
        code=task_code(plan.task),
        dataset=dataset,
        environment={**describe_environment(), "threads": str(plan.threads), **asked},
    )
    if dataset is not None:
        run.lineage(dataset, Ref("run", run.id, ""), "trained_on")
    return run


def _usual_strategy(batch_size: int | AdaptiveBatch, most: int, store: Store | None, replay: str | None) -> Collective:
    if replay is not None and store is not None:
        config = cast("Mapping[str, Any]", store.runs.get(replay).config)
        return Collective(num_virtual=max(config["num_virtual"], most))
    if isinstance(batch_size, AdaptiveBatch):
        return Collective(num_virtual=max(most, _LEAST_TO_MEASURE))
    return Collective()


def _given(train: "Rows | None", validation: "Rows | None") -> "dict[str, Source | None]":
    return {
        name: None if source is None else source_of(source)
        for name, source in (("train", train), ("validation", validation))
    }
