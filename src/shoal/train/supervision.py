"""The supervisor of a run: starts workers, takes their reports, and starts them again when one has died."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic

from shoal.base import DivergedError, Ref, WorkerError
from shoal.runtime import Code, Exited, Gang, Report, Resources, Runtime
from shoal.store import Run
from shoal.train.checkpoint import Checkpoint, newest_checkpoint
from shoal.train.gloo import MeetingPlace, group_environment
from shoal.train.journal import Journal, Progress
from shoal.train.plan import Plan
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
    from_message,
)
from shoal.train.worker import Entry, Orders

# Enough for a step and a checkpoint of a model that fits one machine.
_GRACE_S = 5.0


@dataclass(slots=True, kw_only=True)
class Generation:
    """What happened to one gang of workers."""

    finished: set[int] = field(default_factory=set)
    num_saved: int = 0
    diverged: Diverged | None = None
    raised: WorkerError | None = None
    lost: list[Exited] = field(default_factory=list)


class Supervisor:
    """Sees a run through to its end. One thread, one use."""

    def __init__(
        self,
        plan: Plan,
        run: Run,
        journal: Journal,
        *,
        workers: int,
        runtime: Runtime,
        retries: int,
        progress: Callable[[Progress], None] | None,
    ) -> None:
        self._plan = plan
        self._run = run
        self._journal = journal
        self._workers = workers
        self._runtime = runtime
        self._retries = retries
        self._progress = progress
        self._folder = checkpoint_folder(run.folder)
        self._began = monotonic()
        self.start_up_s: float | None = None

    def see_through(self) -> Checkpoint:
        """Train to the end and return the last checkpoint.

        Raises:
            WorkerError: the task's own code raised in a worker, or workers died more often than `retries` allow.
            DivergedError: a loss was not finite.
        """
        done = newest_checkpoint(self._folder)
        if done is not None and self._journal.is_complete(done.position, self._plan.validation is not None):
            return done
        place = MeetingPlace()
        number = failures = 0
        while True:
            generation = self._run_generation(number, place.port)
            if generation.raised is not None:
                raise generation.raised
            if generation.diverged is not None:
                raise _divergence(generation.diverged, self._run.id)
            is_finished = len(generation.finished) == self._workers
            checkpoint = newest_checkpoint(self._folder) if is_finished else None
            # An older one, which stands in for a damaged last one, is a place to go on from and no trained model.
            if checkpoint is not None and checkpoint.position.step == self._journal.num_steps:
                return checkpoint
            # Only deaths without progress in between count: a long run may lose a worker every day. Checkpoints that
            # cannot be read are no progress, or a run on a bad disk would begin anew for ever.
            failures = 1 if generation.num_saved and not is_finished else failures + 1
            self._note_loss(generation, failures, is_finished=is_finished)
            number += 1

    def _run_generation(self, number: int, port: int) -> Generation:
        checkpoint = newest_checkpoint(self._folder)
        orders = Orders(plan=self._plan, folder=self._folder, port=port, generation=number, checkpoint=checkpoint)
        need = Resources(cpus=self._plan.threads)
        roles = {
            role: (Code.of(Entry(orders)), num, need) for role, num in self._plan.strategy.roles(self._workers).items()
        }
        # The pool of threads is made when torch is loaded, before any code of ours could ask for another size.
        environment = {"OMP_NUM_THREADS": str(self._plan.threads), **group_environment()}
        self._journal.start_generation()
        generation = Generation()
        with self._runtime.gang(roles, environment=environment) as gang:
            self._follow(gang, generation)
        return generation

    def _follow(self, gang: Gang, generation: Generation) -> None:
        for event in gang.events():
            if isinstance(event, Report):
                self._take(from_message(event.message), event.member.rank, generation)
                if len(generation.finished) == self._workers:
                    # Nobody waits for a second until interpreters with torch in them have taken themselves apart.
                    gang.stop(0.0)
            elif isinstance(event, Exited) and event.failure is not None:
                if event.failure.traceback_text:
                    generation.raised = generation.raised or event.failure
                else:
                    generation.lost.append(event)
                # The others cannot go on; what they still have to tell is taken all the same.
                gang.stop(_GRACE_S)

    def _take(self, report: WorkerReport, rank: int, generation: Generation) -> None:
        run, journal = self._run, self._journal
        match report:
            case Ready():
                self.start_up_s = self.start_up_s or monotonic() - self._began
            case Steps():
                self._take_steps(report)
            case EpochDone():
                self._record(journal.take_epoch(report), report.step)
            case Validated():
                self._record(journal.take_validation(report, rank, self._workers), report.step)
            case Saved():
                generation.num_saved += 1
                run.event("checkpoint", step=report.step, path=report.path, digest=report.digest)
                run.lineage(Ref("run", run.id, ""), Ref("checkpoint", report.path, report.digest), "wrote")
            case Warned():
                run.event("warning", text=report.text)
                warnings.warn(f"run {run.id}: {report.text}", RuntimeWarning, stacklevel=2)
            case Diverged():
                generation.diverged = report
            case Finished():
                generation.finished.add(rank)

    def _take_steps(self, steps: Steps) -> None:
        progress = self._journal.take_steps(steps)
        points = list(self._journal.loss_points(steps))
        for step, loss in points:
            self._run.metric("train.loss", loss, step)
        if points:
            self._record(
                {"train.samples_per_s": progress.samples_per_s, "train.data_wait": progress.data_wait}, points[-1][0]
            )
        if self._progress is not None:
            self._progress(progress)

    def _record(self, values: dict[str, float], step: int) -> None:
        for name, value in values.items():
            self._run.metric(name, value, step)

    def _note_loss(self, generation: Generation, failures: int, *, is_finished: bool) -> None:
        found = "; ".join(_death(event) for event in generation.lost) or (
            f"the last checkpoint in {self._folder} cannot be read" if is_finished else "the workers lost each other"
        )
        self._run.event("workers_lost", found=found, attempt=failures, of=self._retries + 1)
        if failures <= self._retries:
            return
        first = generation.lost[0] if generation.lost else None
        raise WorkerError(
            f"cannot go on with run {self._run.id}: {found}, in attempt {failures} of {self._retries + 1}",
            next_step=f"see what ended it (often too little memory), then shoal.train.resume({self._run.id!r})",
            role=first.member.role if first else "worker",
            rank=first.member.rank if first else 0,
            pid=first.pid if first else None,
        )


def checkpoint_folder(run_folder: Path) -> Path:
    """Where a run keeps its checkpoints."""
    return run_folder / "checkpoints"


def _death(event: Exited) -> str:
    how = f"signal {event.signal}" if event.signal is not None else f"exit code {event.exit_code}"
    return f"{event.member.role} {event.member.rank} died by {how}"


def _divergence(found: Diverged, run_id: str) -> DivergedError:
    return DivergedError(
        f"cannot go on with run {run_id}: the loss of step {found.step}, in epoch {found.epoch + 1}, is {found.loss}",
        next_step="lower the learning rate or look for extreme values in the data; checkpoints hold the weights before",
        step=found.step,
    )
