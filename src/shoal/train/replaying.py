"""One step of a recorded run again, in this process and bit for bit: to look into it."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from threading import Event
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

import shoal.store as stores
from shoal.base import InputError, NotFoundError
from shoal.store import Store
from shoal.train.base import GlobalBatch, Group, StepOutcome, Stepper, Strategy, TrainState
from shoal.train.checkpoint import Checkpoint, load_state, newest_checkpoint
from shoal.train.defaults import recorded_device
from shoal.train.group.solo import Solo
from shoal.train.intercepting import Watch, intercepting
from shoal.train.layout import exchange_device
from shoal.train.plan import Plan
from shoal.train.record import warn_of_other_code
from shoal.train.saving.packing import pack_state, unpack_state
from shoal.train.saving.places import place_of_run
from shoal.train.session import replayed_schedule
from shoal.train.task import Batch, Task
from shoal.train.worker.kit import Kit, build_kit
from shoal.train.worker.mail import Mail
from shoal.train.worker.orders import Orders
from shoal.train.worker.pulse import Pulse
from shoal.train.worker.stint import Stint


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """A run's state just before a step, with that step's batch. One thread; `probe` and `step` move nothing else.

    Attributes:
        run: the run's id.
        number: of the step, from 1.
        state: as it was after the step before.
        batch: the step's micro-batches.
        rows: the rows of the data in each micro-batch, int64.
        checkpoint_step: after which step the replay began; 0 for the run's beginning.
        losses: of the steps that were done again, by number.
        recorded: the losses that the run had recorded, by number; long runs record some of them.
    """

    run: str
    number: int
    state: TrainState
    batch: GlobalBatch
    rows: Sequence[NDArray[np.int64]]
    checkpoint_step: int
    losses: Mapping[int, float]
    recorded: Mapping[int, float]
    _stepper: Stepper

    @property
    def differing(self) -> list[int]:
        """Steps that came to another loss than recorded; empty when the replay is the same run, bit for bit."""
        return [step for step, loss in self.losses.items() if self.recorded.get(step, loss) != loss]

    def probe(self) -> tuple[float, dict[int, float]]:
        """The step's loss, and that of each micro-batch that has rows; the state stays as it is.

        Raises:
            Exception: whatever the task raises; `find_failure` says where.
        """
        losses: dict[int, float] = {}

        def note(part: int, function: Callable[..., Any], args: tuple[Any, ...], named: Mapping[str, Any]) -> object:
            found = function(*args, **named)
            loss = found.get("loss") if isinstance(found, Mapping) else found
            losses[part] = float(loss.detach()) if isinstance(loss, torch.Tensor) and loss.numel() == 1 else math.nan
            return found

        with self._as_it_was():
            outcome = self._run(note)
        return outcome.loss, losses

    def find_failure(self) -> "Failure | None":
        """What the task raises in this step, if it does; the state stays as it is."""
        # Micro-batches as they are begun, and those whose loss function was reached.
        begun: list[int] = []
        reached: set[int] = set()

        def note(part: int, function: Callable[..., Any], args: tuple[Any, ...], named: Mapping[str, Any]) -> object:
            reached.add(part)
            return function(*args, **named)

        try:
            with self._as_it_was():
                self._run(note, begun.append)
        except Exception as error:  # noqa: BLE001  # the task's own code: whatever it raises is what was asked for
            return Failure(part=begun[-1], is_in_loss=begun[-1] in reached, error=error)
        return None

    @contextmanager
    def _as_it_was(self) -> Iterator[None]:
        before = pack_state(self.state).clone()
        try:
            yield
        finally:
            self.state.logged.discard()
            unpack_state(before, self.state)

    def step(self, part: int, watch: Watch) -> StepOutcome:
        """Do the step, with one micro-batch's loss computed by `watch`: call the function, in a debugger or not.

        The state is that after the step, with the same bits, if `watch` returns what the function does.

        Raises:
            InputError: that micro-batch has no rows.
        """
        if not 0 <= part < len(self.batch.rows) or not self.batch.rows[part]:
            known = ", ".join(str(index) for index, rows in enumerate(self.batch.rows) if rows)
            raise InputError(
                f"step {self.number} of {self.run} has no micro-batch {part} with rows", next_step=f"choose of {known}"
            )

        def once(this: int, function: Callable[..., Any], args: tuple[Any, ...], named: Mapping[str, Any]) -> object:
            return watch(function, args, named) if this == part else function(*args, **named)

        return self._run(once)

    def _run(
        self,
        watch: Callable[[int, Callable[..., Any], tuple[Any, ...], Mapping[str, Any]], object],
        begin: Callable[[int], None] = lambda _: None,
    ) -> StepOutcome:
        """One step; `watch` is told the micro-batch that is being computed."""
        present = -1

        def read(part: int) -> Batch:
            nonlocal present
            present = part
            begin(part)
            return self.batch.read(part)

        with intercepting(self.state, lambda function, args, named: watch(present, function, args, named)):
            return self._stepper.step(GlobalBatch(rows=self.batch.rows, read=read))


def replay(run_id: str, step: int, *, store: Store | None = None, task: Task | None = None) -> Replay:
    """Rebuild a run's state from its last checkpoint before a step, and do the steps up to it again, in this process.

    Nothing is recorded, no callback is called, and the run itself stays as it is. What was on a GPU is done on one
    again, if there is one here.

    Args:
        run_id: as `Result.run` or `shoal run list` give it.
        step: which one to stop before, from 1.
        store: where the run is recorded; the nearest `.shoal` unless given.
        task: the run's task, needed where its class cannot be imported by name, as with `Task.of`.

    Raises:
        NotFoundError: no such run, or it is no training run.
        InputError: it ends before that step.
        ConfigError: the task cannot be built from the record, or is another one.
        CorruptError: the dataset is not what it was.
    """
    with ExitStack() as stack:
        store = store or stack.enter_context(stores.open())
        record = store.runs.get(run_id)
        if record.kind != "train":
            raise NotFoundError(
                f"cannot replay {run_id}: it is a run of kind {record.kind!r}, expected 'train'",
                next_step="shoal run list --kind train",
            )
        if step < 1:
            raise InputError(f"step={step} must be >= 1", next_step="count steps from 1")
        plan = Plan.from_json(cast("Mapping[str, object]", record.config), task=task, callbacks=())
        warn_of_other_code(record, plan.task, "the step may come to another loss")
        if not isinstance(plan.batch_size, int):
            plan = replace(plan, schedule=tuple(replayed_schedule(store, run_id)))
        recorded = {point.step: point.value for point in store.metrics.curve(run_id, "train.loss")}
        place = place_of_run(plan.checkpoints_to, run_folder=store.home / "runs" / run_id, run_id=run_id)
        device = recorded_device(record)
    return _Replayer(plan, run_id, step, place, recorded, device).go()


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """What a task raised as a step was computed again.

    Attributes:
        part: the micro-batch.
        is_in_loss: whether its loss function had been called, so that a debugger can stop in it.
        error: as it was raised, with its traceback.
    """

    part: int
    is_in_loss: bool
    error: Exception

    @property
    def words(self) -> str:
        """The error's kind and first line."""
        return _words_of(self.error)


class _Reached(Exception):  # noqa: N818  # nothing went wrong: it only leaves the loop
    """The step is next."""

    def __init__(self, batch: GlobalBatch) -> None:
        super().__init__()
        self.batch = batch


class _Replayer:
    """Takes the same part as a lone worker of the run, up to the step."""

    def __init__(
        self, plan: Plan, run: str, step: int, place: str, recorded: Mapping[int, float], device: str | None
    ) -> None:
        self._run = run
        self._number = step
        self._recorded = recorded
        self._losses: dict[int, float] = {}
        self._steppers: list[Stepper] = []
        strategy = cast("Strategy", _StopBefore(plan.strategy, step, self._losses, self._steppers))
        self._plan = replace(plan, strategy=strategy, callbacks=())
        self._place = place
        self._asked = device

    def go(self) -> Replay:
        """Do the steps before."""
        pulse = Pulse(lambda _: None, every_s=3600.0)
        try:
            checkpoint = newest_checkpoint(self._place, up_to=self._number - 1)
            orders = Orders(plan=self._plan, checkpoints=self._place, first=None, device=self._device(checkpoint))
            kit = build_kit(orders, Mail(_Silence()), pulse, lambda _: None)
            if checkpoint is not None:
                load_state(checkpoint, kit.state)
            began = kit.state.position.step
            try:
                Stint(kit, Solo(exchange_device(kit.state.module)), None).run()
            except _Reached as reached:
                return self._made(kit, reached.batch, began)
        finally:
            pulse.stop()
        raise InputError(
            f"cannot replay step {self._number} of {self._run}: the run ends after step {kit.state.position.step}",
            next_step="give an earlier step",
        )

    def _device(self, checkpoint: Checkpoint | None) -> str | None:
        """The kind of device that the run was on, as far as this machine has it."""
        found = None if checkpoint is None else checkpoint.environment.get("device")
        known = found or self._asked
        # Which of several GPUs it was does not matter.
        return "cpu" if known == "cpu" else None

    def _made(self, kit: Kit, batch: GlobalBatch, began: int) -> Replay:
        position = kit.state.position
        numbers = kit.train.row_numbers(position.epoch, position.row, sum(batch.rows))
        edges = np.cumsum(batch.rows)
        return Replay(
            run=self._run,
            number=self._number,
            state=kit.state,
            batch=batch,
            rows=np.split(numbers, edges[:-1]),
            checkpoint_step=began,
            losses=self._losses,
            recorded=self._recorded,
            _stepper=self._steppers[-1],
        )


@dataclass(frozen=True, slots=True)
class _StopBefore:
    """A strategy that does all steps but one."""

    strategy: Strategy
    number: int
    losses: dict[int, float]
    steppers: list[Stepper]

    def roles(self, workers: int) -> Mapping[str, int]:
        return self.strategy.roles(workers)

    def num_parts(self, workers: int) -> int:
        return self.strategy.num_parts(workers)

    def join(
        self, state: TrainState, group: Group, *, seed: int, num_parts: int, measure_noise: bool = False
    ) -> "_StepperBefore":
        stepper = self.strategy.join(state, group, seed=seed, num_parts=num_parts, measure_noise=measure_noise)
        self.steppers.append(stepper)
        return _StepperBefore(stepper, state, self.number, self.losses)


@dataclass(frozen=True, slots=True)
class _StepperBefore:
    stepper: Stepper
    state: TrainState
    number: int
    losses: dict[int, float]

    def step(self, batch: GlobalBatch, note: int = 0) -> StepOutcome:
        number = self.state.position.step + 1
        if number == self.number:
            raise _Reached(batch)
        try:
            outcome = self.stepper.step(batch, note)
        except Exception as error:
            raise InputError(
                f"cannot replay up to step {self.number}: step {number} raises {_words_of(error)}",
                next_step=f"look at that one: --step {number}",
            ) from error
        self.losses[number] = outcome.loss
        return outcome


def _words_of(error: BaseException) -> str:
    """The kind and the first line of an error."""
    lines = str(error).splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


class _Silence:
    """The line to a supervisor that never says anything."""

    def __init__(self) -> None:
        self.stopping = Event()

    def receive(self, timeout_s: float | None = None) -> None:
        del timeout_s

    def receive_nowait(self) -> None:
        return None
