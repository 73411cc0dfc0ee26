"""The supervisor of a run: it does what the membership policy decides, and writes down what the workers tell."""

from contextlib import suppress
from time import monotonic

from shoal.base import WorkerError
from shoal.runtime import Runtime
from shoal.store import Run
from shoal.train.checkpoint import Checkpoint, newest_checkpoint
from shoal.train.elastic.crew import Crew, Site
from shoal.train.elastic.membership import Rules
from shoal.train.elastic.record_keeping import RecordKeeper
from shoal.train.plan import Plan
from shoal.train.reports import Finished


class Supervisor:
    """Sees a run through to its end. One thread, one use."""

    def __init__(
        self,
        plan: Plan,
        run: Run,
        keeper: RecordKeeper,
        *,
        rules: Rules,
        runtime: Runtime,
        checkpoints: str,
        device: str | None = None,
        began: float | None = None,
    ) -> None:
        """Prepare.

        Args:
            plan: the run's settings.
            run: its record.
            keeper: takes the workers' reports.
            rules: how many workers, and what they may do wrong.
            runtime: where they run.
            checkpoints: address of the checkpoints.
            device: where workers compute, as `check_device` has it.
            began: since when the start-up counts, on the monotonic clock.
        """
        self._site = Site(
            plan=plan, run=run, keeper=keeper, rules=rules, runtime=runtime, checkpoints=checkpoints, device=device
        )
        self._began = monotonic() if began is None else began
        self.start_up_s: float | None = None
        self.finished: Finished | None = None

    def see_through(self) -> Checkpoint:
        """Train to the end and return the last checkpoint.

        Raises:
            WorkerError: the task's own code raised in a worker, or workers were lost more often than allowed.
            DivergedError: a loss was not finite.
        """
        keeper = self._site.keeper
        try:
            checkpoint = self._finish()
        except Exception:
            # What ended the run says more than that nobody could be told.
            with suppress(Exception):
                keeper.end()
            raise
        keeper.end(self.finished)
        return checkpoint

    def _finish(self) -> Checkpoint:
        site = self._site
        num_attempts = site.rules.retries + 1
        for _ in range(num_attempts):
            crew = Crew(site, newest_checkpoint(site.checkpoints), self._note_first_step)
            self.finished = crew.work()
            checkpoint = newest_checkpoint(site.checkpoints)
            # An older one, which stands in for a damaged last one, is a place to go on from and no trained model.
            if checkpoint is not None and checkpoint.position.step == self.finished.step:
                return checkpoint
            site.run.event("warning", text=f"the last checkpoint in {site.checkpoints} cannot be read; once more")
        raise WorkerError(
            f"cannot finish run {site.run.id}: the last checkpoint in {site.checkpoints} cannot be read, in attempt "
            f"{num_attempts} of {num_attempts}",
            next_step=f"check that disk, then shoal.train.resume({site.run.id!r})",
            role="worker",
            rank=0,
        )

    def _note_first_step(self) -> None:
        if self.start_up_s is None:
            self.start_up_s = monotonic() - self._began
