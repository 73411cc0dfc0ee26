"""One worker's part in one generation: steps, validations and checkpoints until the generation or the run ends."""

import math
from contextlib import suppress
from dataclasses import replace
from enum import Enum, auto
from itertools import count
from time import perf_counter

from shoal.base import ShoalError
from shoal.train.base import GlobalBatch, Group, Position, StepOutcome
from shoal.train.batch_size.governor import make_governor
from shoal.train.callbacks import Callbacks, Moment
from shoal.train.diagnosis import diagnose
from shoal.train.early_stopping import best_step
from shoal.train.reports import Diverged, EpochDone, Unsaved, Validated, Validating
from shoal.train.task import Batch
from shoal.train.updating import end_epoch
from shoal.train.validating import share_logged
from shoal.train.worker.checkpoints import Checkpoints
from shoal.train.worker.diary import Done
from shoal.train.worker.kit import Kit
from shoal.train.worker.micro_batch import set_number

# Progress for people: often enough to look alive, seldom enough to cost nothing.
_REPORT_EVERY_S = 0.25
# Where the state says that the run is over before its last step, and why.
_END = "end"
# And where it says with which step the epoch began, which batches that change their size would hide.
_EPOCH = "epoch"


class Ending(Enum):
    """How a stint ended."""

    FINISHED = auto()
    # All members left after the same step, as the next generation waits.
    LEFT = auto()
    DIVERGED = auto()


class Stint:
    """Made once a worker has joined its group and holds the same state as the others."""

    def __init__(self, kit: Kit, group: Group, checkpoints: Checkpoints | None) -> None:
        """Take the worker's part; `checkpoints` is rank 0's alone."""
        plan, state = kit.plan, kit.state
        self._kit = kit
        self._group = group
        self._checkpoints = checkpoints
        self._governor = make_governor(plan, state, group, num_rows=kit.train.num_rows, note=kit.diary.add)
        self._stepper = plan.strategy.join(
            state, group, seed=plan.seed, num_parts=plan.step_parts, measure_noise=self._governor.measures_noise
        )
        self._callbacks = Callbacks(plan.callbacks, group.rank)
        self._loss = math.nan
        # The checkpoint that callbacks were last called for.
        self._newest: str | None = None
        # The first step of a generation is told at once: it shows that the run goes on.
        self._told_at = -math.inf

    def run(self) -> Ending:
        """Go on from the state's position.

        Raises:
            PeerLostError: a member was lost; the state is whole, after some step.
        """
        kit = self._kit
        kit.state.module.train()
        if self._is_to_validate:
            # Somebody died meanwhile, or the checkpoint is older: whoever stops by what it finds must not miss one.
            self._validate()
        while not self._is_over:
            if self._has_rows:
                ending = self._step()
                if ending is not None:
                    return ending
            else:
                self._end_epoch()
        self._finish()
        return Ending.FINISHED

    @property
    def _has_rows(self) -> bool:
        plan, position = self._kit.plan, self._kit.state.position
        is_last = plan.max_steps is not None and position.step >= plan.max_steps
        return position.row < self._kit.train.num_rows and not is_last

    @property
    def _is_over(self) -> bool:
        plan, state = self._kit.plan, self._kit.state
        position = state.position
        is_last = position.epoch + 1 >= plan.epochs or (plan.max_steps is not None and position.step >= plan.max_steps)
        return _END in state.extras or (not self._has_rows and is_last and position.validated_step == position.step)

    @property
    def _is_to_validate(self) -> bool:
        """Whether the model is to be measured at this place, in the middle of an epoch, and was not yet."""
        every, state = self._kit.plan.validate_every_steps, self._kit.state
        step = state.position.step
        is_due = every is not None and step > 0 and step % every == 0 and state.position.validated_step != step
        return is_due and self._has_rows and _END not in state.extras

    def _step(self) -> Ending | None:
        kit = self._kit
        plan, state = kit.plan, kit.state
        position = state.position
        batch_size = self._governor.begin_step()
        kit.pulse.enter("computing")
        began = perf_counter()
        waited_s = 0.0
        step_rows = batch_size * plan.accumulate
        size = min(step_rows, kit.train.num_rows - position.row)
        first_number = (position.step - state.extras.get(_EPOCH, {}).get("first_step", 0)) * plan.accumulate

        def read(part: int, num_parts: int) -> Batch:
            nonlocal waited_s
            asked = perf_counter()
            rows = kit.train.stretch(position.epoch, position.row, size, part, num_parts)
            waited_s += perf_counter() - asked
            # Whoever reads a micro-batch computes it next; a short batch has none of the first ones.
            set_number(first_number + (part + plan.step_parts - num_parts) % plan.accumulate)
            return rows

        batch = GlobalBatch.of(size, batch_size=step_rows, num_parts=plan.step_parts, read=read)
        outcome = self._stepper.step(batch, int(kit.mail.has_call))
        if not math.isfinite(outcome.loss):
            return self._diverge(batch, outcome)
        seconds = perf_counter() - began
        self._governor.end_step(outcome, batch.rows, seconds)
        state.position = _moved(position, size, outcome.loss)
        self._loss = outcome.loss
        kit.pulse.step = state.position.step
        kit.diary.add(
            Done(
                step=state.position.step,
                epoch=position.epoch,
                loss=outcome.loss,
                rows=size,
                seconds=seconds,
                wait_s=waited_s,
                exchange_s=outcome.exchange_s,
                update_s=outcome.update_s,
                workers=self._group.size,
                batch_size=batch_size,
                row=state.position.row,
            )
        )
        self._after_step()
        # Whoever is asked to end needs nobody's consent, nor does who is alone.
        is_leaving = any(outcome.notes) or kit.mail.is_stopping or (self._group.size == 1 and kit.mail.has_call)
        return Ending.LEFT if is_leaving else None

    def _after_step(self) -> None:
        state = self._kit.state
        if self._callbacks:
            self._callbacks.on_step(self._moment())
            self._call_on_checkpoint()
        if self._group.rank == 0 and perf_counter() - self._told_at >= _REPORT_EVERY_S:
            self._tell()
        if self._checkpoints is not None and self._checkpoints.is_due(state.position.step):
            self._save()
        if self._is_to_validate:
            self._validate()

    def _call_on_checkpoint(self) -> None:
        newest = None if self._checkpoints is None else self._checkpoints.newest
        if newest is not None and newest != self._newest:
            self._newest = newest
            self._callbacks.on_checkpoint(self._moment())

    def _end_epoch(self) -> None:
        """After an epoch's last step, or the run's: all of this happens again if somebody dies before the last line."""
        kit = self._kit
        position = kit.state.position
        if kit.validator is not None or position.epoch + 1 < kit.plan.epochs:
            # Before the validation, which may take long; the run's last one, which is written at its end, comes after.
            self._save(is_epoch=True)
        values = self._measure()
        kit.diary.add(
            EpochDone(epoch=position.epoch, step=position.step, loss=position.loss_sum / max(position.row, 1))
        )
        self._note_values(values)
        end_epoch(kit.state, values)
        if not self._is_over:
            kit.state.position = Position(epoch=position.epoch + 1, step=position.step, validated_step=position.step)
            kit.state.extras[_EPOCH] = {"first_step": position.step}
        self._save_if_best()
        self._tell()

    def _validate(self) -> None:
        self._note_values(self._measure())
        self._save_if_best()
        self._tell()

    def _save_if_best(self) -> None:
        state = self._kit.state
        if self._checkpoints is not None and best_step(state) == state.position.step:
            with self._kit.pulse.phase("saving"):
                self._checkpoints.save_best(state)

    def _measure(self) -> dict[str, float]:
        """What validation finds, and what the task has logged since the last time."""
        kit = self._kit
        with kit.pulse.phase("validating"):
            logged = share_logged(kit.state, self._group)
            self._logged = {f"train.{name}": value for name, value in logged.items()}
            if kit.validator is None:
                return {}
            # It may take long, and whoever watches should see the last step before it, and what goes on.
            self._tell()
            if self._group.rank == 0:
                kit.tell(Validating(step=kit.state.position.step))
            # A validation may take long, but none of its batches.
            numbers = count(self._group.rank, self._group.size)

            def before_batch() -> None:
                kit.pulse.enter("validating")
                set_number(next(numbers))

            values = kit.validator.run(kit.state, self._group, before_batch=before_batch)
        kit.state.module.train()
        return values

    def _note_values(self, values: dict[str, float]) -> None:
        """From here to the next exchange nothing can fail but this process: all members do it, or none."""
        kit = self._kit
        position = kit.state.position
        kit.state.position = replace(position, validated_step=position.step)
        kit.state.logged.clear()
        stopping = kit.plan.early_stopping
        if stopping is not None and stopping.should_stop(values, kit.state):
            best = best_step(kit.state)
            since = f"since step {best}" if best is not None else f"for {stopping.patience} validations"
            kit.state.extras[_END] = {"why": f"no better {stopping.monitor} {since}"}
        curves = {**{f"validation.{name}": value for name, value in values.items()}, **self._logged}
        if stopping is not None and (best := best_step(kit.state)) is not None:
            curves["validation.best_step"] = float(best)
        if curves:
            kit.diary.add(Validated(epoch=position.epoch, step=position.step, values=curves))
        if values and self._callbacks:
            self._callbacks.on_validation(self._moment(values))

    def _diverge(self, batch: GlobalBatch, outcome: StepOutcome) -> Ending:
        """Find the rows at fault, whoever computed them, and keep the weights as they were before."""
        kit = self._kit
        position = kit.state.position
        numbers = kit.train.row_numbers(position.epoch, position.row, sum(batch.rows))
        found = diagnose(kit.state, batch, outcome.bad_parts, numbers)
        told = self._group.share(b"" if found is None else str(found).encode())
        if self._checkpoints is not None:
            self._tell()
            # Weights that ran away before their loss did would push better ones out.
            if self._is_finite:
                self._checkpoints.save(kit.state)
            # A failure has been told as a warning; that there is no number any more says more.
            with suppress(ShoalError):
                self._checkpoints.wait()
            rows = [] if found is None else list(found.rows)
            why = "; ".join(text.decode() for text in told if text)
            kit.tell(Diverged(epoch=position.epoch, step=position.step + 1, loss=outcome.loss, rows=rows, why=why))
        # Nobody leaves before it is told: a worker that is gone would be replaced.
        self._group.share(b"")
        return Ending.DIVERGED

    def _finish(self) -> None:
        """Return when all is told and the last checkpoint is durable; until then all stay, so that others can do it."""
        kit = self._kit
        self._tell()
        if self._checkpoints is not None:
            with kit.pulse.phase("saving"):
                self._save_last(self._checkpoints)
            if self._callbacks:
                self._call_on_checkpoint()
                self._callbacks.on_end(self._moment())
        self._group.share(b"")

    def _save_last(self, checkpoints: Checkpoints) -> None:
        checkpoints.save(self._kit.state)
        try:
            checkpoints.wait()
        except ShoalError as error:
            # By itself, as what a worker raises is taken for a mistake of the task's.
            self._kit.tell(Unsaved(error=type(error).__name__, text=error.message, next_step=error.next_step))
            raise

    @property
    def why_ended(self) -> str:
        """Why the run ended before its last step, if it did."""
        return str(self._kit.state.extras.get(_END, {}).get("why", ""))

    @property
    def _is_finite(self) -> bool:
        # Sums first: one pass without memory of its own, and only numbers near the largest make one overflow.
        params = [param.detach() for param in self._kit.state.module.parameters()]
        return all(bool(param.sum().isfinite()) or bool(param.isfinite().all()) for param in params)

    def _save(self, *, is_epoch: bool = False) -> None:
        # Weights that are no numbers any more, of which the next step's loss will tell, push no good checkpoint out.
        if self._checkpoints is not None and self._is_finite:
            # Told before: whoever goes on from the checkpoint will not do these steps again.
            self._tell()
            save = self._checkpoints.save_epoch if is_epoch else self._checkpoints.save
            with self._kit.pulse.phase("saving"):
                save(self._kit.state)

    def _tell(self) -> None:
        """Tell what nobody was told of yet; the first member's part."""
        if self._group.rank == 0:
            self._told_at = perf_counter()
            for report in self._kit.diary.take():
                self._kit.tell(report)

    def _moment(self, values: dict[str, float] | None = None) -> Moment:
        state = self._kit.state
        return Moment(
            step=state.position.step,
            epoch=state.position.epoch,
            rank=self._group.rank,
            module=state.module,
            loss=self._loss,
            values=values or {},
            checkpoint=None if self._checkpoints is None else self._checkpoints.newest,
        )


def _moved(position: Position, size: int, loss: float) -> Position:
    return replace(position, row=position.row + size, step=position.step + 1, loss_sum=position.loss_sum + loss * size)
