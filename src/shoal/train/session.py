"""One process's work on a run, new or resumed: from the settled plan to the result."""

import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep
from typing import Any

from torch import nn

from shoal.base import ConflictError, InputError, Ref, file_lock, is_handle
from shoal.runtime import LocalRuntime, Runtime
from shoal.store import Run, Store
from shoal.train.base import TrainState
from shoal.train.building import trained_module
from shoal.train.checkpoint import Checkpoint, load_state, newest_checkpoint
from shoal.train.early_stopping import EarlyStopping, best_step
from shoal.train.elastic.crew import prepare_workers
from shoal.train.elastic.membership import Rules
from shoal.train.elastic.record_keeping import RecordKeeper
from shoal.train.elastic.supervisor import Supervisor
from shoal.train.feeds import LOADER_WARNING
from shoal.train.journal import Journal, Progress
from shoal.train.observing.boards import Boards, check_boards
from shoal.train.plan import Plan, Source
from shoal.train.saving.places import open_place, place_of_run
from shoal.train.worker.kit import open_feed

# Far longer than anybody looks.
_LOOK_S = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """A finished run.

    Attributes:
        model: the trained module, in evaluation mode; with the weights of the last step, or with those of the best
            validation where `early_stopping` was given and restores them.
        run: the run's id in the store.
        metrics: the last epoch's measures, such as "train.epoch_loss" and "validation.accuracy".
        history: the measures of every epoch, in order.
        checkpoint: the last checkpoint.
        steps: optimiser steps of the whole run.
        samples_per_s: rows trained on per second, start-up and validation not counted.
        seconds: from the call to the result.
        start_up_s: from the call to the first step.
        best_checkpoint: where `early_stopping` was given, the checkpoint of its best validation; it may be the last.
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
    best_checkpoint: Checkpoint | None = None


@dataclass(frozen=True, slots=True)
class Session:
    """A plan, and what of a run may be another the next time.

    Attributes:
        rules: how many workers, when one counts as lost, and how often that may happen.
        report_to: names of who else is told the metrics.
        began: the caller's own first moment, on the monotonic clock.
        device: where workers compute, as `check_device` has it.
    """

    plan: Plan
    rules: Rules
    runtime: Runtime
    report_to: Sequence[str]
    progress: Callable[[Progress], None] | None
    began: float
    device: str | None = None

    def check(self) -> int:
        """Rows per epoch, once it is sure that the run can start."""
        plan = self.plan
        plan.strategy.roles(self.rules.most)
        prepare_workers(self.runtime, plan)
        check_boards(self.report_to)
        for source in (plan.validation, plan.train):
            if source is not None and not (num_rows := open_feed(source, plan, shuffle=False).num_rows):
                name = source.address if isinstance(source, Ref) else "an empty loader"
                raise InputError(f"cannot train with {name}: it has no rows", next_step="give a larger split")
        if not isinstance(plan.train, Ref):
            warnings.warn(LOADER_WARNING, RuntimeWarning, stacklevel=4)
        return num_rows

    def run(self, store: Store, run: Run, num_rows: int) -> Result:
        """Everything from here on ends up in the run's record."""
        plan = self.plan
        with _alone(run), run:
            journal = Journal(
                run=run.id,
                num_epochs=plan.epochs,
                num_steps=plan.num_steps(num_rows),
                num_rows=num_rows,
                max_steps=plan.max_steps,
                accumulate=plan.accumulate,
            )
            journal.recall({name: store.metrics.curve(run.id, name) for name in store.metrics.names(run.id)})
            place = place_of_run(plan.checkpoints_to, run_folder=run.folder, run_id=run.id)
            checkpoint = _finished_checkpoint(store, run.id, place)
            start_up_s = 0.0
            if checkpoint is None:
                # A place that takes nothing should be known now, and not when the last step is done.
                open_place(place).probe()
                checkpoint, start_up_s = self._train(store, run, journal, place)
            history = [journal.history[epoch] for epoch in sorted(journal.history)]
            chosen = _Choice(plan.early_stopping, checkpoint, place, run.id)
            return Result(
                model=trained_module(plan.task, num_steps=plan.num_steps(num_rows), load=chosen.load),
                run=run.id,
                metrics=history[-1],
                history=history,
                checkpoint=checkpoint,
                steps=checkpoint.position.step,
                samples_per_s=journal.samples_per_s,
                seconds=monotonic() - self.began,
                start_up_s=start_up_s,
                best_checkpoint=chosen.best,
            )

    def _train(self, store: Store, run: Run, journal: Journal, place: str) -> tuple[Checkpoint, float]:
        """The last checkpoint, and the seconds until the first step."""
        runtime = self.runtime
        if isinstance(runtime, LocalRuntime):
            runtime = runtime.logging_to(run.folder / "logs")
        with Boards.open(self.report_to, run_id=run.id, folder=run.folder, config=self.plan.to_json()) as boards:
            keeper = RecordKeeper(
                run,
                journal,
                also=boards.metric if self.report_to else None,
                progress=self.progress,
                file=Path(store.url.removeprefix("sqlite:///")),
            )
            supervisor = Supervisor(
                self.plan,
                run,
                keeper,
                rules=self.rules,
                runtime=runtime,
                checkpoints=place,
                device=self.device,
                began=self.began,
            )
            try:
                checkpoint = supervisor.see_through()
            except KeyboardInterrupt as stop:
                # The last thing that is read, in a notebook as in a shell.
                stop.add_note(_farewell(run.id, keeper))
                # Where in our own waiting it came says nothing to anybody.
                raise stop.with_traceback(None) from None
        finished = supervisor.finished
        run.event("finished", step=checkpoint.position.step, why="" if finished is None else finished.why)
        return checkpoint, supervisor.start_up_s or 0.0


@dataclass(slots=True)
class _Choice:
    """Which checkpoint's weights a run comes to: the last one's, or those of the best validation.

    The last one says which step was best, so a run comes to the same however often it was resumed.
    """

    early_stopping: EarlyStopping | None
    last: Checkpoint
    place: str
    run_id: str
    best: Checkpoint | None = None

    def load(self, state: TrainState) -> None:
        """Overwrite the state with that of the checkpoint of choice."""
        load_state(self.last, state)
        stopping, step = self.early_stopping, best_step(state)
        if stopping is None or step is None:
            return
        found = self.last if step == self.last.position.step else newest_checkpoint(self.place, up_to=step)
        if found is not None and found.position.step == step:
            self.best = found
            if stopping.restore_best and found is not self.last:
                load_state(found, state)
        elif stopping.restore_best:
            warnings.warn(
                f"run {self.run_id}: the checkpoint of step {step}, whose {stopping.monitor} was best, is not to be "
                f"found in {self.place}; the model has the weights of step {self.last.position.step}, the last",
                RuntimeWarning,
                stacklevel=2,
            )


@contextmanager
def _alone(run: Run) -> Iterator[None]:
    """Two supervisors of one run would write into each other's checkpoints."""
    lock = run.folder / "supervisor.lock"
    with ExitStack() as stack:
        try:
            try:
                stack.enter_context(file_lock(lock, blocking=False))
            except ConflictError:
                # Whoever looks whether it is free holds it for a moment.
                sleep(_LOOK_S)
                stack.enter_context(file_lock(lock, blocking=False))
        except ConflictError as error:
            raise ConflictError(
                f"run {run.id} is running: another process or thread works on it", next_step=error.next_step
            ) from None
        yield


def _farewell(run_id: str, keeper: RecordKeeper) -> str:
    saved = keeper.told.saved
    kept = f"with a checkpoint of step {saved}" if saved >= 0 else "before its first checkpoint"
    return f"run {run_id} stopped after step {keeper.step}, {kept}\nnext  shoal train resume {run_id}"


def _finished_checkpoint(store: Store, run_id: str, place: str) -> Checkpoint | None:
    """The last checkpoint of a run that an earlier process has brought to its end, if it is still whole."""
    ends = [event.fields["step"] for event in store.runs.events(run_id) if event.kind == "finished"]
    if not ends:
        return None
    checkpoint = newest_checkpoint(place)
    return checkpoint if checkpoint is not None and checkpoint.position.step == ends[-1] else None


def source_of(data: object) -> "Source":
    """The words of a dataset, or a torch DataLoader as it is; InputError for anything else."""
    if is_handle(data):
        return Ref.of(data)
    loading = sys.modules.get("torch.utils.data")
    if loading is None or not isinstance(data, loading.DataLoader):
        advice = "make a dataset by shoal.data.ingest(...), or give a torch.utils.data.DataLoader"
        raise InputError(
            f"cannot train on {data!r:.200}: it is a {type(data).__name__}, expected a dataset or a torch DataLoader",
            next_step=f"write shoal.data.open({data!r})" if isinstance(data, str) else advice,
        )
    loader: Source = data
    return loader


def replayed_schedule(store: Store, run_id: str) -> list[tuple[int, int, float]]:
    """The batch sizes that a run went through: (step, batch size, factor of the learning rate).

    Raises:
        NotFoundError: there is no such run.
    """
    config: Any = store.runs.get(run_id).config
    size = config["batch_size"]
    first = size if isinstance(size, int) else size["fields"]["min"]
    if config["schedule"]:
        first = config["schedule"][0][1]
    changes: list[Any] = [event.fields for event in store.runs.events(run_id) if event.kind == "batch_size"]
    schedule = {0: (0, first, 1.0)}
    for change in changes:
        # Told in the order in which they came true: what was told of later steps was lost with all workers at once.
        schedule = {step: known for step, known in schedule.items() if step < change["step"]}
        schedule[change["step"]] = (change["step"], change["size"], change["lr_factor"])
    known = [schedule[step] for step in sorted(schedule)]
    # A new generation of workers tells anew what it goes on with.
    return [
        change
        for before, change in zip([None, *known], known, strict=False)
        if before is None or before[1:] != change[1:]
    ]
