"""One batch ahead in a thread, where measuring shows that it helps; order and state are the same either way."""

import logging
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeVar

_LOG = logging.getLogger(__name__)
# The first batches open files and check them; what follows is what an epoch is made of.
_WARM_UP = 8
_SAMPLES = 24
# A consumer that takes less than a tenth of a batch's making leaves a thread nothing to hide behind.
_IDLE_SHARE = 0.1
# Less than 3% faster is noise, and a thread takes a core's time from the consumer.
_WORTHWHILE = 0.97
_AHEAD = 2

Place = TypeVar("Place")
PrefetchMode = bool | Literal["auto"]


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether a thread makes batches ahead, and why, in words."""

    threaded: bool
    why: str


def decide_idle(make_s: float, use_s: float) -> Decision | None:
    """Return the decision that needs no trial with a thread: the consumer does nothing else than wait."""
    if use_s >= _IDLE_SHARE * make_s:
        return None
    return Decision(False, f"no thread: the consumer is idle ({_us(make_s)} to make a batch, {_us(use_s)} to use it)")


def decide_tried(alone_s: float, threaded_s: float) -> Decision:
    """Return the decision after both ways were timed, in seconds per batch with its use."""
    figures = f"{_us(threaded_s)} per batch with it, {_us(alone_s)} without"
    if threaded_s < _WORTHWHILE * alone_s:
        return Decision(True, f"one thread ahead: {figures}")
    return Decision(False, f"no thread: it does not help ({figures})")


def _median(times: list[float]) -> float:
    from statistics import median  # loads fractions and more, for what a loader asks twice in its life

    return median(times)


def _us(seconds: float) -> str:
    return f"{seconds * 1e6:.0f} us"


@dataclass(slots=True)
class Choice:
    """How batches are read: as told, or found out over the first 64 batches; kept from epoch to epoch."""

    mode: PrefetchMode = "auto"
    clock: Callable[[], float] = time.perf_counter
    decision: Decision | None = field(init=False, default=None)
    _seen: int = field(init=False, default=0)
    _alone: tuple[list[float], list[float]] = field(init=False)
    _threaded: list[float] = field(init=False)

    def __post_init__(self) -> None:
        self._alone, self._threaded = ([], []), []
        if self.mode != "auto":
            self._settle(Decision(self.mode, f"{'one thread ahead' if self.mode else 'no thread'}: as told"))

    @property
    def threaded(self) -> bool:
        """Whether the next batch is to come from a thread."""
        if self.decision is not None:
            return self.decision.threaded
        return self._seen >= _WARM_UP + _SAMPLES

    def add(self, make_s: float, cycle_s: float) -> None:
        """Take the timing of one batch: its making (waiting for it, when threaded), and from batch to batch."""
        self._seen += 1
        trial = self._seen - _WARM_UP
        if 0 < trial <= _SAMPLES:
            self._alone[0].append(make_s)
            self._alone[1].append(max(cycle_s - make_s, 0.0))
            if trial == _SAMPLES and (decision := decide_idle(*map(_median, self._alone))) is not None:
                self._settle(decision)
        elif trial > _SAMPLES + _WARM_UP:
            self._threaded.append(cycle_s)
            if len(self._threaded) == _SAMPLES:
                self._settle(decide_tried(sum(map(_median, self._alone)), _median(self._threaded)))

    def _settle(self, decision: Decision) -> None:
        self.decision = decision
        if self.mode == "auto":
            _LOG.info("prefetch: %s", decision.why)


class Reader(Generic[Place]):
    """Makes the batches of one epoch in order, perhaps some ahead; for one thread. Close it when the epoch ends."""

    def __init__(
        self, make: Callable[[Place], Any], following: Callable[[Place], Place | None], choice: Choice
    ) -> None:
        """Make nothing yet.

        Args:
            make: makes the batch of a place; called from another thread when threaded.
            following: the place after, None at the end of the epoch. Asked anew for each batch, so that it may change
                its mind: what was made ahead for another place is dropped.
            choice: whether to make ahead.
        """
        self._make = make
        self._following = following
        self._choice = choice
        self._ahead: deque[tuple[Place, Future[Any]]] = deque()
        self._executor: ThreadPoolExecutor | None = None
        self._last: float | None = None

    def get(self, place: Place) -> Any:  # noqa: ANN401  # whatever `make` returns
        """Return the batch of the place."""
        choice = self._choice
        if choice.decision is not None:
            return self._from_thread(place) if choice.decision.threaded else self._make(place)
        began = choice.clock()
        batch = self._from_thread(place) if choice.threaded else self._make(place)
        ended = choice.clock()
        if self._last is not None:
            choice.add(ended - began, ended - self._last)
        self._last = ended
        if not choice.threaded:
            self.close()
        return batch

    def _from_thread(self, place: Place) -> Any:  # noqa: ANN401
        if self._executor is None:
            self._executor = ThreadPoolExecutor(1, thread_name_prefix="shoal-prefetch")
        if not self._ahead or self._ahead[0][0] != place:
            self._drop()
            self._ahead.append((place, self._executor.submit(self._make, place)))
        while len(self._ahead) <= _AHEAD and (upcoming := self._following(self._ahead[-1][0])) is not None:
            self._ahead.append((upcoming, self._executor.submit(self._make, upcoming)))
        return self._ahead.popleft()[1].result()

    def _drop(self) -> None:
        while self._ahead:
            self._ahead.pop()[1].cancel()

    def close(self) -> None:
        """Drop what was made ahead and end the thread."""
        self._drop()
        if self._executor is not None:
            self._executor.shutdown(wait=True, cancel_futures=True)
            self._executor = None
