"""Training a task on a dataset, from the call to the trained module."""

import warnings
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from time import monotonic
from typing import cast

import shoal.store as stores
from shoal.base import InputError, NotFoundError, Ref
from shoal.data import Dataset
from shoal.runtime import Runtime, open_runtime
from shoal.store import Store
from shoal.train.base import Strategy
from shoal.train.collective import Collective
from shoal.train.environment import describe_environment
from shoal.train.journal import Progress
from shoal.train.plan import Plan
from shoal.train.record import task_code
from shoal.train.session import Result, Session, choose_workers
from shoal.train.task import Task


def fit(
    task: Task,
    train: Dataset,
    *,
    validation: Dataset | None = None,
    epochs: int = 1,
    batch_size: int = 64,
    seed: int = 0,
    strategy: Strategy | None = None,
    workers: int | tuple[int, int] = 1,
    threads: int = 1,
    runtime: str | Runtime = "local",
    store: Store | None = None,
    name: str | None = None,
    checkpoint_every_steps: int | None = None,
    checkpoint_every_s: float | None = None,
    retries: int = 2,
    progress: Callable[[Progress], None] | None = None,
) -> Result:
    """Train a task in worker processes, validate after each epoch, and return the trained module.

    The same task, dataset version, seed, batch size, number of virtual workers, and threads give the same weights, bit
    for bit, whatever the number of workers and however often they die or the run is resumed. A checkpoint is written at
    the end of each epoch. On Ctrl-C the run is cancelled and can be resumed.

    Args:
        task: what to train.
        train: rows to learn from; each once per epoch, in an order that depends on the seed and the epoch.
        validation: rows to measure on; their number of batches is shared by the workers.
        epochs: passes over the rows.
        batch_size: rows per step, over all workers; the last batch of an epoch may have fewer.
        seed: of weights, order and every random number that torch draws in the task.
        strategy: `Collective()` unless given.
        workers: processes; (least, most) takes as many as the machine has processors for.
        threads: of each worker.
        runtime: where they run.
        store: where the run is recorded; the nearest `.shoal` unless given.
        name: of the run; the task's class unless given.
        checkpoint_every_steps: write checkpoints also after so many steps.
        checkpoint_every_s: write checkpoints also after so many seconds.
        retries: how often in a row workers may die without a new checkpoint in between.
        progress: called a few times per second, in the calling thread.

    Raises:
        ConfigError: a setting is wrong.
        InputError: there are no rows, or the task's loss is not one number.
        WorkerError: the task raised in a worker; the traceback comes with it. Or workers died too often.
        DivergedError: a loss was not finite; the error names the step.
    """
    began = monotonic()
    if not isinstance(task, Task):
        raise InputError(
            f"cannot train {task!r:.200}: it is a {type(task).__name__}, expected a Task",
            next_step="subclass shoal.Task, or wrap a module by shoal.Task.of(module, ...)",
        )
    strategy = strategy or Collective()
    least, most = (workers, workers) if isinstance(workers, int) else workers
    plan = Plan(
        task=task,
        strategy=strategy,
        train=Ref.of(train),
        validation=None if validation is None else Ref.of(validation),
        epochs=epochs,
        batch_size=batch_size,
        seed=seed,
        num_parts=strategy.num_parts(most),
        threads=threads,
        every_steps=checkpoint_every_steps,
        every_s=checkpoint_every_s,
    )
    session = Session(plan, choose_workers(least, most, threads), open_runtime(runtime), retries, progress, began)
    num_batches = session.check()
    with ExitStack() as stack:
        store = store or stack.enter_context(stores.open())
        run = store.runs.start(
            kind="train",
            name=name or type(task).__name__,
            config=plan.to_json(),
            code=task_code(task),
            dataset=plan.train,
            environment={**describe_environment(), "threads": str(threads)},
        )
        run.lineage(plan.train, Ref("run", run.id, ""), "trained_on")
        return session.run(store, run, num_batches)


def resume(
    run_id: str,
    *,
    store: Store | None = None,
    task: Task | None = None,
    workers: int | tuple[int, int] = 1,
    runtime: str | Runtime = "local",
    retries: int = 2,
    progress: Callable[[Progress], None] | None = None,
) -> Result:
    """Go on with a run that was interrupted, from its last good checkpoint, to the weights it would have had.

    Args:
        run_id: as `Result.run` or `shoal run list` give it.
        store: where the run is recorded; the nearest `.shoal` unless given.
        task: the run's task, needed where its class cannot be imported by name, as with `Task.of`.
        workers: as in `fit`; another number than before changes the time alone.
        runtime: as in `fit`.
        retries: as in `fit`.
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
        plan = Plan.from_json(cast("Mapping[str, object]", record.config), task=task)
        if record.code != task_code(plan.task):
            warnings.warn(
                f"run {run_id}: the task's code has changed since it was started; other weights will come of it",
                RuntimeWarning,
                stacklevel=2,
            )
        least, most = (workers, workers) if isinstance(workers, int) else workers
        count = min(choose_workers(least, most, plan.threads), max(plan.num_parts, least))
        session = Session(plan, count, open_runtime(runtime), retries, progress, began)
        num_batches = session.check()
        return session.run(store, store.runs.resume(run_id), num_batches)
