"""What the workers of a run have told so far, put together: curves, progress and history. Pure: time is passed in."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from shoal.train.base import Position
from shoal.train.metrics import Mean, merge_means
from shoal.train.reports import EpochDone, Steps, Validated

# Points of one loss curve at most: more than a screen can show, few enough to keep for ever.
_MAX_POINTS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """A moment of a run, for a live display.

    Attributes:
        run: the run's id.
        epoch: the present epoch, from 1.
        num_epochs: of how many.
        step: steps done, over all epochs.
        num_steps: of how many.
        loss: mean loss of the last step's global batch.
        samples_per_s: rows trained on per second, lately.
        data_wait: share of the time lately spent waiting for rows, 0 to 1.
        eta_s: seconds to the last step at that speed; validation is not counted.
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


@dataclass(slots=True, kw_only=True)
class Journal:
    """Takes reports in the order they came, also ones that an earlier generation of workers has made before."""

    run: str
    num_epochs: int
    num_batches: int
    history: dict[int, dict[str, float]] = field(default_factory=dict)
    rows: int = 0
    seconds: float = 0.0
    _shares: dict[int, dict[int, Validated]] = field(default_factory=dict)

    @property
    def num_steps(self) -> int:
        """Steps of the whole run."""
        return self.num_epochs * self.num_batches

    @property
    def samples_per_s(self) -> float:
        """Rows per second of training, over all that this process has seen."""
        return self.rows / self.seconds if self.seconds else 0.0

    def take_steps(self, steps: Steps) -> Progress:
        """Where the run stands after these steps."""
        self.rows += steps.rows
        self.seconds += steps.seconds
        done = steps.first_step + len(steps.losses) - 1
        return Progress(
            run=self.run,
            epoch=steps.epoch + 1,
            num_epochs=self.num_epochs,
            step=done,
            num_steps=self.num_steps,
            loss=steps.losses[-1],
            samples_per_s=steps.rows / max(steps.seconds, 1e-9),
            data_wait=min(1.0, steps.wait_s / max(steps.seconds, 1e-9)),
            eta_s=(self.num_steps - done) * steps.seconds / len(steps.losses),
        )

    def loss_points(self, steps: Steps) -> Iterator[tuple[int, float]]:
        """(step, loss) at the steps that the curve keeps: evenly spaced, the last always among them."""
        every = max(1, self.num_steps // _MAX_POINTS)
        for step, loss in enumerate(steps.losses, steps.first_step):
            if step % every == 0 or step == self.num_steps:
                yield step, loss

    def take_epoch(self, done: EpochDone) -> dict[str, float]:
        """The epoch's curves' new values."""
        values = {"train.epoch_loss": done.loss}
        self.history.setdefault(done.epoch, {}).update(values)
        return values

    def take_validation(self, share: Validated, rank: int, num_workers: int) -> dict[str, float]:
        """The validation's values once the last worker's share is here; nothing before."""
        shares = self._shares.setdefault(share.epoch, {})
        shares[rank] = share
        if len(shares) < num_workers:
            return {}
        del self._shares[share.epoch]
        names = sorted({name for part in shares.values() for name in part.parts})
        values = {
            f"validation.{name}": merge_means(
                Mean(*sums) for part in shares.values() for sums in part.parts.get(name, ())
            ).value
            for name in names
        }
        self.history.setdefault(share.epoch, {}).update(values)
        return values

    def is_complete(self, position: Position, with_validation: bool) -> bool:
        """Whether nothing is left to do: the last step is in a checkpoint, the last epoch in the history."""
        last = self.history.get(self.num_epochs - 1, {})
        told = "train.epoch_loss" in last and (not with_validation or "validation.loss" in last)
        return told and position.step == self.num_steps

    def start_generation(self) -> None:
        """Forget the shares of workers that are gone: their successors validate anew."""
        self._shares.clear()
