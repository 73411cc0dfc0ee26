"""What the workers of a run have told so far, put together: curves, progress and history. Pure: time is passed in."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol

from shoal.train.reports import EpochDone, Steps, Validated

# Points of one loss curve at most: more than a screen can show, few enough to keep for ever.
_MAX_POINTS = 1000
# How the names of validation's curves begin.
_MEASURE = "validation."


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """A moment of a run, for a live display.

    Attributes:
        run: the run's id.
        epoch: the present epoch, from 1.
        num_epochs: of how many.
        step: steps done, over all epochs.
        num_steps: of how many, as far as can be known: with batches of the present size from here on.
        loss: mean loss of the last step's global batch.
        samples_per_s: rows trained on per second, lately.
        data_wait: share of the time lately spent waiting for rows, 0 to 1.
        comm_share: share of it spent on the other workers, waiting for them included, 0 to 1.
        update_share: share of it spent on the optimisers, 0 to 1.
        workers: that take part now.
        batch_size: rows of a full batch now.
        news: what happened to the workers since the last progress, one sentence each.
        eta_s: seconds to the last step at that speed; validation is not counted.
        phase: what the run is at; "ended" with its last progress, after which nobody is called any more.
        validation: what the newest validation found, by measure, such as "accuracy"; empty before the first.
    """

    run: str
    epoch: int
    num_epochs: int
    step: int
    num_steps: int
    loss: float
    samples_per_s: float
    data_wait: float
    eta_s: float
    comm_share: float = 0.0
    update_share: float = 0.0
    workers: int = 1
    batch_size: int = 0
    news: tuple[str, ...] = ()
    phase: Literal["training", "validating", "ended"] = "training"
    validation: Mapping[str, float] = field(default_factory=dict)


class Point(Protocol):
    """A point of a recorded curve."""

    @property
    def step(self) -> int:
        """After which step."""

    @property
    def value(self) -> float:
        """Its value."""


@dataclass(slots=True, kw_only=True)
class Journal:
    """Takes reports in the order they came, also ones that an earlier generation of workers has made before.

    Attributes:
        num_steps: of the whole run with batches of the first size: with batches that grow there will be fewer.
        num_rows: per epoch.
        max_steps: after which the run ends in any case.
        accumulate: batches per step.
        history: by epoch, its last values.
        step: the newest that was told.
        told_epoch, told_validation: the newest epoch, and step of a validation, that were told; -1 for none.
        validation: what the newest validation found, by measure.
        best_step: after which early stopping found the model best; None without early stopping.
        exchange_s: of `seconds`, those spent on the other workers.
    """

    run: str
    num_epochs: int
    num_steps: int
    num_rows: int
    max_steps: int | None = None
    accumulate: int = 1
    history: dict[int, dict[str, float]] = field(default_factory=dict)
    rows: int = 0
    seconds: float = 0.0
    step: int = 0
    told_epoch: int = -1
    told_validation: int = -1
    validation: dict[str, float] = field(default_factory=dict, init=False)
    best_step: int | None = field(default=None, init=False)
    exchange_s: float = field(default=0.0, init=False)
    _epoch_ends: dict[int, int] = field(default_factory=dict, init=False)

    @property
    def samples_per_s(self) -> float:
        """Rows per second of training, over all that this process has seen."""
        return self.rows / self.seconds if self.seconds else 0.0

    def news_in(self, steps: Steps) -> Steps | None:
        """Those of the steps that were not told before; None where all were.

        Whoever tells after another has died may not know how far that one came. Rows and seconds are counted for all
        steps of a report together: where a part was told, the rest gets its share of them by the number of steps.
        """
        num_known = self.step + 1 - steps.first_step
        num_new = len(steps.losses) - num_known
        if num_known <= 0 or num_new <= 0:
            return steps if num_new > 0 else None
        share = num_new / len(steps.losses)
        return replace(
            steps,
            first_step=self.step + 1,
            losses=steps.losses[num_known:],
            rows=round(steps.rows * share),
            **{name: getattr(steps, name) * share for name in ("seconds", "wait_s", "exchange_s", "update_s")},
        )

    def rewind(self, step: int) -> None:
        """All state after a step is lost: what comes is done, and told, anew."""
        self.step = min(self.step, step)
        self.told_validation = min(self.told_validation, step)
        self.told_epoch = max((epoch for epoch, end in self._epoch_ends.items() if end <= step), default=-1)

    def is_news(self, found: EpochDone | Validated) -> bool:
        """Whether nobody has told it yet."""
        return found.epoch > self.told_epoch if isinstance(found, EpochDone) else found.step > self.told_validation

    def take_steps(self, steps: Steps) -> Progress:
        """Where the run stands after these steps."""
        self.rows += steps.rows
        self.seconds += steps.seconds
        self.exchange_s += steps.exchange_s
        done = self.step = steps.last_step
        seconds = max(steps.seconds, 1e-9)
        rate = steps.rows / seconds
        num_left, rows_left = self._left(steps)
        return Progress(
            run=self.run,
            epoch=steps.epoch + 1,
            num_epochs=self.num_epochs,
            step=done,
            num_steps=done + num_left,
            loss=steps.losses[-1],
            samples_per_s=rate,
            data_wait=min(1.0, steps.wait_s / seconds),
            eta_s=rows_left * steps.seconds / max(steps.rows, 1),
            comm_share=min(1.0, steps.exchange_s / seconds),
            update_share=min(1.0, steps.update_s / seconds),
            workers=steps.workers,
            batch_size=steps.batch_size,
            validation=self.validation,
        )

    def _left(self, steps: Steps) -> tuple[int, float]:
        """How many steps and rows are left after these."""
        if not (steps.row and steps.batch_size):
            num_left = max(0, self.num_steps - steps.last_step)
            return num_left, num_left * steps.rows / len(steps.losses)
        rows_left = self.num_rows - steps.row
        epochs_left = self.num_epochs - 1 - steps.epoch
        step_rows = steps.batch_size * self.accumulate
        num_left = -(-rows_left // step_rows) + epochs_left * -(-self.num_rows // step_rows)
        rows_left += epochs_left * self.num_rows
        if self.max_steps is not None and self.max_steps - steps.last_step < num_left:
            num_left = max(0, self.max_steps - steps.last_step)
            rows_left = min(rows_left, num_left * step_rows)
        return num_left, rows_left

    def loss_points(self, steps: Steps) -> Iterator[tuple[int, float]]:
        """(step, loss) at the steps that the curve keeps: evenly spaced, the last always among them."""
        every = max(1, self.num_steps // _MAX_POINTS)
        for step, loss in enumerate(steps.losses, steps.first_step):
            if step % every == 0 or (step == steps.last_step and not self._left(steps)[0]):
                yield step, loss

    def take_epoch(self, done: EpochDone) -> dict[str, float]:
        """The curves' new values; `train.epoch` says for later readers which step ended which epoch."""
        self.told_epoch = max(self.told_epoch, done.epoch)
        self._epoch_ends[done.epoch] = done.step
        self.history.setdefault(done.epoch, {})["train.epoch_loss"] = done.loss
        return {"train.epoch_loss": done.loss, "train.epoch": done.epoch + 1}

    def take_validation(self, found: Validated) -> dict[str, float]:
        """The curves' new values."""
        self.told_validation = max(self.told_validation, found.step)
        self.history.setdefault(found.epoch, {}).update(found.values)
        measures = {
            name.removeprefix(_MEASURE): value for name, value in found.values.items() if name.startswith(_MEASURE)
        }
        best_step = measures.pop("best_step", None)
        self.best_step = self.best_step if best_step is None else int(best_step)
        self.validation = measures or self.validation
        return found.values

    def recall(self, curves: Mapping[str, Sequence[Point]]) -> None:
        """Put the epochs that an earlier process has recorded into the history."""
        ends = {point.step: int(point.value) - 1 for point in curves.get("train.epoch", ())}
        for name, points in curves.items():
            for point in points if name == "train.epoch_loss" or name.startswith("validation.") else ():
                if point.step in ends:
                    self.history.setdefault(ends[point.step], {})[name] = point.value
