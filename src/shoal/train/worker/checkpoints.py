"""When a run's checkpoints are due, and how they get to where they are kept; the first worker's part."""

from contextlib import suppress
from time import monotonic

from shoal.base import ShoalError
from shoal.train.base import TrainState
from shoal.train.early_stopping import best_step
from shoal.train.saving.saver import Saver
from shoal.train.worker.kit import Kit

# Epochs of a small dataset end faster than any disk writes.
_EPOCH_LEAST_S = 1.0


class Checkpoints:
    """Made by a worker once it is the first of a generation; it stays that for as long as it lives."""

    def __init__(self, kit: Kit, saved_step: int) -> None:
        """Begin where the checkpoint of `saved_step` is the newest, -1 for none."""
        plan = kit.plan
        self._every_steps = plan.every_steps
        self._every_s = plan.every_s
        self._step = max(saved_step, 0)
        self._time = monotonic()
        self._saver = Saver(
            kit.orders.checkpoints,
            kit.environment,
            plan.keep,
            plan.keep_s,
            kit.tell,
            state=kit.state,
            silence_s=kit.orders.saving_s,
        )
        self._saver.kept_step = best_step(kit.state)

    @property
    def newest(self) -> str | None:
        """Address of the newest that is durable."""
        found = self._saver.newest
        return None if found is None else found.address

    def is_due(self, step: int) -> bool:
        """Whether one should be written after this step, by steps or by time."""
        by_steps = self._every_steps is not None and step // self._every_steps > self._step // self._every_steps
        return by_steps or (self._every_s is not None and monotonic() - self._time >= self._every_s)

    def save(self, state: TrainState) -> None:
        """Return once a copy is taken; the rest goes on beside the steps, and its troubles are told as warnings."""
        self._step, self._time = state.position.step, monotonic()
        self._saver.save(state)

    def save_epoch(self, state: TrainState) -> None:
        """The same at the end of an epoch, unless the last one is so young that nothing would be gained."""
        if monotonic() - self._time >= _EPOCH_LEAST_S:
            self.save(state)

    def save_best(self, state: TrainState) -> None:
        """The same for the best step so far, whose checkpoint stays until another step is better.

        Returns when it is durable: one that waits to be written would make way for a newer one.
        """
        self._saver.kept_step = state.position.step
        self.save(state)
        # A failure has been told as a warning, and the run can go on without.
        with suppress(ShoalError):
            self._saver.wait()

    def wait(self) -> None:
        """Return when the last is durable.

        Raises:
            StorageFullError: there is no room for it.
            ShoalError: it could not be written.
        """
        self._saver.wait()

    def close(self) -> None:
        """Write what waits, if it can be written."""
        self._saver.close()
