"""Where what workers tell goes: into the run's record, the journal, and to whoever watches."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Literal

from shoal.base import Ref, ShoalError
from shoal.store import Run
from shoal.train.journal import Journal, Progress
from shoal.train.observing.warning import warn
from shoal.train.reports import (
    Cautioned,
    EpochDone,
    Finished,
    Resized,
    Saved,
    Steps,
    Validated,
    Validating,
    Warned,
    WorkerReport,
)
from shoal.train.worker.cautions import MAX_CAUTIONS, caution_kind
from shoal.train.worker.orders import Told

Metric = Callable[[str, float, int], None]

# A share of the time spent on the other workers from which on fewer of them may be faster.
_MUCH_EXCHANGE = 0.4


class RecordKeeper:
    """Takes the reports that concern the training itself, in the order they came, each step once.

    The record is not the training: where the store fails, the user is warned once, and the run goes on.
    """

    def __init__(
        self,
        run: Run,
        journal: Journal,
        *,
        also: Metric | None = None,
        progress: Callable[[Progress], None] | None,
        file: Path | None = None,
    ) -> None:
        """Begin with what the journal knows.

        Args:
            run: the run's record.
            journal: what was told before.
            also: gets every point of a curve beside the store.
            progress: shows where the run stands.
            file: of the store, which should stay where it is.
        """
        self._run = run
        self._journal = journal
        self._also = also
        self._progress = progress
        self._file = file
        self._identity = _identity(file)
        self._has_warned = False
        self._saved = -1
        self._samples: list[Steps] = []
        self._news: list[str] = []
        self._last: Progress | None = None
        self._cautions: set[str] = set()
        # Where the checkpoints of this process are, by step.
        self._places: dict[int, str] = {}

    @property
    def told(self) -> Told:
        """What workers need not tell again."""
        journal = self._journal
        return Told(step=journal.step, epoch=journal.told_epoch, validation=journal.told_validation, saved=self._saved)

    def take(self, report: WorkerReport) -> None:
        """Write a report down."""
        run, journal = self._run, self._journal
        match report:
            case Steps():
                self._check_store()
                self._take_steps(report)
            case EpochDone():
                if journal.is_news(report):
                    self._record(journal.take_epoch(report), report.step)
            case Validated():
                if journal.is_news(report):
                    self._record(journal.take_validation(report), report.step)
                self._show_phase("training")
            case Validating():
                self._show_phase("validating")
            case Saved():
                self._take_saved(report)
            case Resized():
                run.event("batch_size", step=report.step, size=report.size, lr_factor=report.lr_factor, **report.facts)
                self._record({"train.batch_size": float(report.size)}, report.step)
            case Warned():
                run.event("warning", text=report.text)
                warn(f"run {run.id}: {report.text}", stacklevel=2)
            case Cautioned():
                self._take_caution(report)
            case _:
                pass

    @property
    def step(self) -> int:
        """The newest step that was told."""
        return self._journal.step

    def say(self, news: str) -> None:
        """Show at once what happened to the workers, beside the last moment; before the first it waits for that."""
        self._news.append(news)
        if self._last is not None:
            self._show(self._last)

    def end(self, finished: Finished | None = None) -> None:
        """Show the last moment of all: how the run ended, if it came to its end, and that nothing follows."""
        if finished is not None:
            self._news += self._last_words(finished)
        self._show_phase("ended")
        self._progress = None

    def stop_showing(self) -> None:
        """Call nobody with progress any more."""
        self._progress = None

    def rewind(self, step: int) -> None:
        """What was told after this step is done again, and will be told again."""
        self._journal.rewind(step)

    def _last_words(self, finished: Finished) -> list[str]:
        """What whoever watched should know before they look at the result."""
        journal, words = self._journal, []
        if finished.why:
            best = None if journal.best_step is None else self._places.get(journal.best_step)
            kept = f"; the best checkpoint is {best}" if best is not None else ""
            words.append(f"stopped early at step {finished.step}: {finished.why}{kept}")
        share = journal.exchange_s / max(journal.seconds, 1e-9)
        if share > _MUCH_EXCHANGE and self._last is not None and self._last.workers > 1:
            words.append(
                f"the workers spent {min(1.0, share):.0%} of the time on each other: one worker, or a larger batch, "
                "may be faster"
            )
        return words

    def _take_caution(self, report: Cautioned) -> None:
        # Another process that is number 0, of a later attempt, warns of the same again.
        if (kind := caution_kind(report.text)) in self._cautions or len(self._cautions) >= MAX_CAUTIONS:
            return
        self._cautions.add(kind)
        run = self._run
        run.event("worker_warning", worker=report.worker, text=report.text)
        text = f"worker {report.worker} warned: {report.text}; all of it: shoal run logs {run.id}"
        # Python's own way of printing it would tear a line apart that is being redrawn.
        if self._progress is not None:
            self.say(text)
        else:
            warn(text, stacklevel=3)

    def _take_saved(self, saved: Saved) -> None:
        run = self._run
        self._saved = saved.step
        self._places[saved.step] = saved.path
        run.event(
            "checkpoint",
            step=saved.step,
            path=saved.path,
            digest=saved.digest,
            blocked_s=round(saved.blocked_s, 6),
        )
        try:
            # Whoever goes on from it does not do the steps before it again, so their points are needed in the store.
            run.flush()
            run.lineage(Ref("run", run.id, ""), Ref("checkpoint", saved.path, saved.digest), "wrote")
        except Exception as error:  # noqa: BLE001  # the boundary to the store: whatever its driver raises
            self._warn_of_store(error.message if isinstance(error, ShoalError) else f"{type(error).__name__}: {error}")

    def _check_store(self) -> None:
        # A database goes on taking what is written to a file without a name, and says nothing.
        if _identity(self._file) != self._identity:
            self._warn_of_store(
                f"{self._file} was deleted or replaced, and all that is noted is lost with this process"
            )

    def _warn_of_store(self, why: str) -> None:
        if not self._has_warned:
            self._has_warned = True
            warn(
                f"run {self._run.id}: its record cannot be kept, {why}; the training goes on, and its checkpoints are "
                "written as before",
                stacklevel=3,
            )

    def _take_steps(self, told: Steps) -> None:
        steps = self._journal.news_in(told)
        if steps is None:
            return
        progress = self._journal.take_steps(steps)
        points = list(self._journal.loss_points(steps))
        for step, loss in points:
            self._metric("train.loss", loss, step)
        self._samples.append(steps)
        if points:
            self._record(_shares(self._samples), points[-1][0])
            self._samples = []
        self._last = progress
        self._show(progress)

    def _show_phase(self, phase: Literal["training", "validating", "ended"]) -> None:
        # Before the first step there is no moment to show.
        if self._last is not None:
            self._last = replace(self._last, phase=phase, validation=self._journal.validation)
            self._show(self._last)

    def _show(self, progress: Progress) -> None:
        if self._progress is not None:
            news, self._news = tuple(self._news), []
            self._progress(replace(progress, news=news))

    def _record(self, values: dict[str, float], step: int) -> None:
        for name, value in values.items():
            self._metric(name, value, step)

    def _metric(self, name: str, value: float, step: int) -> None:
        self._run.metric(name, value, step)
        if self._also is not None:
            self._also(name, value, step)


def _identity(file: Path | None) -> tuple[int, int] | None:
    """What tells a file from another one of its name; None where there is none."""
    try:
        found = None if file is None else file.stat()
    except OSError:
        return None
    return None if found is None else (found.st_dev, found.st_ino)


def _shares(told: list[Steps]) -> dict[str, float]:
    """What the steps since the last point took: each point stands for all steps since the one before."""
    seconds = max(sum(steps.seconds for steps in told), 1e-9)
    return {
        "train.samples_per_s": sum(steps.rows for steps in told) / seconds,
        "train.step_s": seconds / sum(len(steps.losses) for steps in told),
        "train.data_wait": min(1.0, sum(steps.wait_s for steps in told) / seconds),
        "train.comm_share": min(1.0, sum(steps.exchange_s for steps in told) / seconds),
        "train.update_share": min(1.0, sum(steps.update_s for steps in told) / seconds),
        "train.workers": float(told[-1].workers),
    }
