"""Saves a run's state beside the training: the step loop waits for one copy in memory, a thread does the rest."""

import gc
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import torch

from shoal.base import Clock, ConfigError, RemoteError, ShoalError, StorageFullError, SystemClock
from shoal.train.base import Position, TrainState
from shoal.train.checkpoint import Checkpoint, checkpoint_name, publish
from shoal.train.reports import Saved, Warned
from shoal.train.saving.buffers import make_buffer, touch
from shoal.train.saving.packing import PackedState, StateLayout
from shoal.train.saving.places import Place, open_place
from shoal.train.saving.retention import Retention

# A disk that is full is looked at again after so long, while somebody waits for the last checkpoint.
_RETRY_S = 5.0
# The slowest line that is worth waiting for.
_LEAST_BYTES_PER_S = 1e6


@dataclass(slots=True)
class _Slot:
    """A snapshot's memory; `packed` is what it holds at the moment."""

    buffer: torch.Tensor
    packed: PackedState | None = None
    began_s: float = 0.0
    blocked_s: float = 0.0

    @property
    def step(self) -> int:
        """The step of the state that it holds."""
        assert self.packed is not None
        return self.packed.position.step


class Saver:
    """Writes checkpoints of a run to one place; one thread calls it, and there is one for a place at a time.

    A snapshot goes into memory that is reused. While it is written, one more may wait, in a second piece of memory; a
    newer one takes its place. So with writes slower than the time between two snapshots the newest is written,
    those in between are not, and that is told once. A write that fails is told and changes nothing else: the next
    snapshot is the next attempt.
    """

    def __init__(
        self,
        place: Place | Path | str,
        environment: Mapping[str, str],
        keep: int = 2,
        keep_s: float | None = None,
        tell: Callable[[Saved | Warned], None] = lambda _: None,
        *,
        state: TrainState | None = None,
        silence_s: float = 600.0,
        clock: Clock | None = None,
    ) -> None:
        """Start the thread that writes.

        Args:
            place: an address, or what `open_place` returned.
            environment: what the checkpoints say they were made in.
            keep: how many are kept.
            keep_s: for how many seconds one is kept; the newest stays.
            tell: called from the writing thread, with a Saved after each checkpoint and a Warned after each failure.
            state: one such as will be saved: memory for it is got ready, beside the caller's work.
            silence_s: for how long `wait` waits for a place that neither takes a checkpoint nor refuses it, beside a
                second for each megabyte.
            clock: for the age of checkpoints.

        Raises:
            UnsupportedError: `state` holds something that is neither tensor nor plain value.
        """
        self._place = open_place(place) if isinstance(place, str | Path) else place
        self._environment = dict(environment)
        self._retention = Retention(keep=keep, keep_s=keep_s)
        # A step whose checkpoint stays whatever its age, beside those that are kept anyway.
        self.kept_step: int | None = None
        self._tell = tell
        self._silence_s = silence_s
        self._clock = clock or SystemClock()
        self._changed = threading.Condition()
        self._free: list[_Slot] = []
        self._waiting: _Slot | None = None
        self._writing: _Slot | None = None
        self._failed: tuple[_Slot, Exception] | None = None
        self._broken: Exception | None = None
        self._newest: Checkpoint | None = None
        self._asked: Position | None = None
        self._is_closing = self._has_told_slow = False
        self._told = ""
        # Being got ready by the thread; nobody may write into it meanwhile.
        self._fresh = None if state is None else _Slot(make_buffer(expected_bytes(state)))
        self._thread = threading.Thread(target=self._run, name="shoal-saver", daemon=True)
        self._thread.start()

    @property
    def newest(self) -> Checkpoint | None:
        """The newest checkpoint that this one has written and that is durable."""
        with self._changed:
            return self._newest

    def save(self, state: TrainState) -> None:
        """Take a snapshot, and return while it is being written.

        Nothing is done for a position that was taken already; one of the same step takes the other's place.

        Raises:
            UnsupportedError: the state holds something that is neither tensor nor plain value.
        """
        self._check()
        began_s = time.monotonic()
        position = state.position
        with self._changed:
            if position == self._asked and self._failed is None:
                return
        with _uncollected():
            layout = StateLayout.of(state)
            slot = self._take_slot(layout.size_bytes)
            slot.packed = layout.write(slot.buffer)
            del layout
        slot.began_s, slot.blocked_s = began_s, time.monotonic() - began_s
        with self._changed:
            self._asked = position
            self._waiting = slot
            self._changed.notify_all()

    def wait(self, patience_s: float = 0.0) -> Checkpoint | None:
        """Return the newest checkpoint once all snapshots are written or replaced by newer ones; None without any.

        Args:
            patience_s: for how long a write that failed is tried again; it is tried once more in any case.

        Raises:
            StorageFullError: the last snapshot has no room where it should go. It is still in memory: after room was
                made, `wait` may be called again.
            RemoteError: the place has taken nothing for too long, and may never.
            ShoalError: it could not be written for another reason; likewise.
        """
        deadline = time.monotonic() + patience_s
        for attempt in count():
            with self._changed:
                self._wait_until_idle()
                self._check()
                if self._failed is None:
                    return self._newest
                slot, error = self._failed
                if attempt and time.monotonic() >= deadline:
                    raise self._give_up(slot, error) from error
                if attempt:
                    self._changed.wait(min(_RETRY_S, max(0.0, deadline - time.monotonic())))
                self._failed, self._waiting = None, slot
                self._changed.notify_all()
        raise AssertionError("count() does not end")

    def close(self) -> None:
        """Write what waits, and end the thread. Idempotent; nothing is raised for what cannot be written."""
        with self._changed:
            self._is_closing = True
            self._changed.notify_all()
        self._thread.join()

    def __enter__(self) -> "Saver":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _take_slot(self, num_bytes: int) -> _Slot:
        """Return memory for a snapshot: that of an older one that was not written yet, or free, or new."""
        told = slot = None
        with self._changed:
            # What is not ready yet is ready sooner than other memory would be.
            self._changed.wait_for(lambda: self._fresh is None)
            if self._waiting is not None:
                slot, self._waiting = self._waiting, None
                if not self._has_told_slow:
                    self._has_told_slow = True
                    told = Warned(text=self._too_slow(slot.step))
            elif self._failed is not None:
                (slot, _), self._failed = self._failed, None
            elif self._free:
                slot = self._free.pop()
        if told is not None:
            self._tell(told)
        if slot is None or len(slot.buffer) < num_bytes:
            slot = _Slot(make_buffer(num_bytes))
        return slot

    def _run(self) -> None:
        try:
            self._write_all()
        except Exception as failure:  # noqa: BLE001  # the boundary of a thread: raised again by the next call
            with self._changed:
                self._broken = failure
                self._writing = self._fresh = None
                self._changed.notify_all()

    def _write_all(self) -> None:
        self._finish_fresh()
        # What is wrong with the place, the first write will tell.
        with suppress(ShoalError, OSError):
            self._place.tidy()
        has_second = False
        while (slot := self._next()) is not None:
            if not has_second:
                has_second = True
                # Without room for it now, there may be when it is needed.
                with suppress(OSError):
                    self._make_second(len(slot.buffer))
            error = None
            try:
                error = self._write(slot)
            except Exception as failure:  # noqa: BLE001  # the boundary of a thread: raised again by the next call
                self._broken = failure
            with self._changed:
                self._writing = None
                if error is not None and self._waiting is None:
                    self._failed = (slot, error)
                else:
                    self._free.append(slot)
                self._changed.notify_all()

    def _make_second(self, num_bytes: int) -> None:
        """Get memory ready for what may have to wait; not before there is something that it may have to wait for."""
        with self._changed:
            if self._free or self._waiting is not None:
                return
            self._fresh = _Slot(make_buffer(num_bytes))
        self._finish_fresh()

    def _finish_fresh(self) -> None:
        if self._fresh is not None:
            touch(self._fresh.buffer)
            with self._changed:
                self._free.append(self._fresh)
                self._fresh = None
                self._changed.notify_all()

    def _next(self) -> _Slot | None:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting is not None or self._is_closing)
            self._writing, self._waiting = self._waiting, None
            return self._writing

    def _write(self, slot: _Slot) -> Exception | None:
        """Write a snapshot, tell of it, and remove what is too much; returns what kept it from being written."""
        assert slot.packed is not None
        try:
            checkpoint = publish(self._place, slot.packed, self._environment)
        except (ShoalError, OSError) as error:
            self._warn(slot, error)
            return error
        with self._changed:
            self._newest = checkpoint
        self._tell(
            Saved(
                step=slot.step,
                path=checkpoint.address,
                digest=checkpoint.digest,
                blocked_s=slot.blocked_s,
                seconds=time.monotonic() - slot.began_s,
            )
        )
        try:
            names = self._retention.removals(
                self._place.found(), newest=checkpoint_name(slot.step), now_s=self._clock.now().timestamp()
            )
            kept = None if self.kept_step is None else checkpoint_name(self.kept_step)
            self._place.remove([name for name in names if name != kept])
        except (ShoalError, OSError) as error:
            self._tell(Warned(text=f"older checkpoints at {self._place} could not be removed: {_said(error)}"))
        return None

    def _warn(self, slot: _Slot, error: Exception) -> None:
        text = f"no checkpoint at step {slot.step}: {_said(error)}"
        # While the last one is tried again and again, once is enough.
        if text == self._told:
            return
        self._told = text
        self._tell(Warned(text=text))

    def _is_idle(self) -> bool:
        return self._broken is not None or (self._waiting is None and self._writing is None)

    def _wait_until_idle(self) -> None:
        """One snapshot after another may take its time; one that takes more will never be done."""
        while not self._is_idle():
            slot = self._writing or self._waiting
            assert slot is not None
            limit_s = self._silence_s + len(slot.buffer) / _LEAST_BYTES_PER_S

            def is_over(slot: _Slot = slot) -> bool:
                return self._is_idle() or (self._writing or self._waiting) is not slot

            if not self._changed.wait_for(is_over, limit_s):
                error = self._hangs(slot, limit_s)
                self._warn(slot, error)
                raise error

    def _hangs(self, slot: _Slot, waited_s: float) -> RemoteError:
        return RemoteError(
            f"cannot write the checkpoint of step {slot.step} to {self._place}: it has neither taken nor refused it "
            f"for {waited_s:.0f} s; {self._before}",
            next_step="look at that place, then resume the run: it does the steps since again",
        )

    @property
    def _before(self) -> str:
        return (
            "none before it" if self._newest is None else f"the one before it is of step {self._newest.position.step}"
        )

    def _check(self) -> None:
        if self._broken is not None:
            raise self._broken
        if self._is_closing:
            raise AssertionError("this saver was closed")

    def _too_slow(self, step: int) -> str:
        return (
            f"writing a checkpoint to {self._place} takes longer than the steps between two: that of step {step} is "
            "left out for a newer one, and others may be; write them less often to have each"
        )

    def _give_up(self, slot: _Slot, error: Exception) -> ShoalError:
        assert slot.packed is not None
        size = _size_text(len(slot.packed.data))
        message = (
            f"cannot write the last checkpoint, of step {slot.step} ({size}), to {self._place}: {_said(error)}; "
            f"{self._before}; this state is still in the memory of process {os.getpid()}, and is lost when that ends"
        )
        if isinstance(error, StorageFullError):
            return StorageFullError(
                message,
                next_step=f"free {size} there and write again, or resume the run: it does the steps since again",
            )
        if isinstance(error, ShoalError):
            return type(error)(message, next_step=error.next_step)
        return ConfigError(
            message, next_step="give a place that can be written to as checkpoints_to, then resume the run"
        )


@contextmanager
def _uncollected() -> Iterator[None]:
    """Keep Python from looking for garbage in this block: a layout has thousands of objects, all gone at its end.

    With torch loaded one full search takes 150 ms.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def expected_bytes(state: TrainState) -> int:
    """Return about how much memory a snapshot takes: also of optimisers that have made no step yet.

    Raises:
        UnsupportedError: the state holds something that is neither tensor nor plain value.
    """
    size = StateLayout.of(state).size_bytes
    for optimizer in state.optimizers:
        if optimizer.state:
            continue
        for group in optimizer.param_groups:
            size += _moments(group) * sum(param.nbytes for param in group["params"])
            # A step count and its line in the header, for each.
            size += 1_000 * len(group["params"])
    return size


def _moments(group: Mapping[str, object]) -> int:
    """How many tensors of its parameter's size an optimiser will keep, as far as its settings tell."""
    if "dampening" in group:
        return 1 if group.get("momentum") else 0
    return 3 if group.get("amsgrad") or group.get("centered") else 2


def _said(error: Exception) -> str:
    return error.message if isinstance(error, ShoalError) else f"{getattr(error, 'strerror', None) or error}"


def _size_text(num_bytes: int) -> str:
    """Return a size as people say it, in a unit of which it is at least one."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if num_bytes >= size:
            return f"{num_bytes / size:.1f} {unit}"
    return f"{num_bytes} bytes"
