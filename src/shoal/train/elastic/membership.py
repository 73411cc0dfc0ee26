"""Who takes part in a run: from what happened to what to do about it. Pure: time is passed in, nothing is done here.

Workers have numbers that are never used twice. A generation is a list of numbers in rank order; those that have been
there longest come first. It is published once, and replaced by the next when it has lost somebody (`planned` is False:
its members must stop waiting for each other) or when newcomers are warm (they then change at the end of a step).
"""

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from shoal.base import ConfigError
from shoal.train.reports import Apart, Beat, Finished, Ready, Steps, Warm, WorkerReport


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What a run asks of its workers.

    Attributes:
        least, most: how many must take part for it to go on, and how many it wants.
        retries: how often in a row members may be lost without a finished step in between.
        heartbeat_s: silence after which a worker counts as lost.
        step_timeout_s: the same for one that warms up, computes one step, or validates one batch, for so long.
        first_delay_s, longest_delay_s: the pause before another one is started when newcomers die before their first
            step; it doubles each time.
        together_s: losses within this time of the first count as one.
    """

    least: int = 1
    most: int
    retries: int = 2
    heartbeat_s: float = 10.0
    step_timeout_s: float = 600.0
    first_delay_s: float = 0.5
    longest_delay_s: float = 30.0
    together_s: float = 1.0

    def __post_init__(self) -> None:
        if self.retries < 0 or self.heartbeat_s <= 0 or self.step_timeout_s <= 0:
            raise ConfigError(
                f"retries={self.retries} must be >= 0, heartbeat_s={self.heartbeat_s} and "
                f"step_timeout_s={self.step_timeout_s} above 0",
                next_step="correct them, or leave them out",
            )


@dataclass(frozen=True, slots=True)
class Came:
    """A worker's process exists."""

    number: int
    host: str = ""


@dataclass(frozen=True, slots=True)
class Heard:
    """A worker said something."""

    number: int
    report: WorkerReport


@dataclass(frozen=True, slots=True)
class Gone:
    """A worker's process has ended, and why."""

    number: int
    cause: str


@dataclass(frozen=True, slots=True)
class NotStarted:
    """So many workers could not be started; `for_good` if it is of no use to try again."""

    num: int
    cause: str
    for_good: bool = False


@dataclass(frozen=True, slots=True)
class Look:
    """Nothing has happened; time has passed."""


Event: TypeAlias = Came | Heard | Gone | NotStarted | Look


@dataclass(frozen=True, slots=True)
class Start:
    """Start so many more workers."""

    num: int


@dataclass(frozen=True, slots=True)
class Kill:
    """End a worker that no longer counts as a member."""

    number: int
    why: str


@dataclass(frozen=True, slots=True)
class Publish:
    """Tell these workers to meet; `numbers[0]` is rank 0.

    `from_checkpoint` says that none of them is known to hold the run's state. `one_host` says that they share memory.
    """

    generation: int
    numbers: tuple[int, ...]
    planned: bool
    from_checkpoint: bool
    one_host: bool


@dataclass(frozen=True, slots=True)
class GiveUp:
    """End the run: workers were lost so many times in a row, this one first."""

    number: int
    cause: str
    losses: int


Action: TypeAlias = Start | Kill | Publish | GiveUp


@dataclass(slots=True, kw_only=True)
class Seat:
    """One worker that is not known to be dead.

    `stepped` says that a step was finished while it took part, `has_state` that it once held the run's state.
    """

    since: float
    host: str = ""
    status: Literal["starting", "warm", "in"] = "starting"
    heard_at: float | None = None
    stepped: bool = False
    has_state: bool = False


# Steps may take long in these alone; elsewhere a worker waits for others, who are watched themselves, or for the place
# of the checkpoints, whose limit is the worker's own (`Orders.saving_s`): killed, it could not say what it waits for.
_BUSY = ("warming", "computing", "validating")


@dataclass(slots=True, kw_only=True)
class Membership:
    """The members of one run; `decide` is told everything that happens, in order.

    Attributes:
        num_asked: workers that were asked for and have not come yet.
        started_with: so many workers know from the start that they are generation 0.
        can_add: whether more workers can be started at all.
        unready: members of the present generation that have not said that they have met the others.
    """

    rules: Rules
    started_with: int = 0
    num_asked: int = 0
    can_add: bool = True
    seats: dict[int, Seat] = field(default_factory=dict)
    generation: int = -1
    current: tuple[int, ...] = ()
    unready: set[int] = field(default_factory=set)
    is_over: bool = False
    losses: int = 0
    _first: tuple[int, str] = (0, "")
    _is_broken: bool = False
    _loss_at: float = 0.0
    _apart_at: float | None = None
    _was_apart: bool = False
    _published_at: float | None = None
    _num_young: int = 0
    _start_at: float = 0.0
    _step: int = -1
    _last: float | None = None

    def __post_init__(self) -> None:
        if self.started_with:
            self.generation = 0
            self.current = tuple(range(self.started_with))
            self.unready = set(self.current)
            self.seats = {number: Seat(since=0.0, status="in") for number in self.current}

    def decide(self, event: Event, now: float) -> list[Action]:
        """What to do now, in this order; after `GiveUp`, or once a worker has finished, nothing more."""
        if self.is_over:
            return []
        self._forgive_own_sleep(now)
        actions: list[Action] = []
        match event:
            case Came():
                self._take_newcomer(event, now)
            case Heard():
                actions += self._hear(event.number, event.report, now)
            case Gone():
                self._lose(event.number, event.cause, now)
            case NotStarted():
                self.num_asked -= event.num
                self.can_add = self.can_add and not event.for_good
                self._delay_start(now)
                self._count_loss(-1, event.cause, now)
            case Look():
                actions += self._find_lost(now)
        if self.losses > self.rules.retries or self._is_hopeless():
            self.is_over = True
            return [*actions, GiveUp(*self._first, self.losses)]
        return [*actions, *self._publish(now), *self._start(now)] if not self.is_over else actions

    def _forgive_own_sleep(self, now: float) -> None:
        """Whoever has not looked for long, as on a laptop that was closed, cannot say that others were silent."""
        if self._last is not None and now - self._last > self.rules.heartbeat_s / 2:
            for seat in self.seats.values():
                seat.heard_at = None if seat.heard_at is None else now
        self._last = now

    def _take_newcomer(self, event: Came, now: float) -> None:
        seat = self.seats.get(event.number)
        if seat is None:
            self.num_asked = max(0, self.num_asked - 1)
            self.seats[event.number] = Seat(since=now, host=event.host)
        else:
            seat.since, seat.host = now, event.host

    def _hear(self, number: int, report: WorkerReport, now: float) -> list[Action]:
        seat = self.seats.get(number)
        if isinstance(report, Finished):
            self.is_over = True
        if seat is None:
            return []
        seat.heard_at = now
        match report:
            case Warm() if seat.status == "starting":
                seat.status = "warm"
            case Ready():
                seat.has_state = True
                if report.generation == self.generation:
                    self.unready.discard(number)
                self._note_step(report.step)
            case Steps():
                self._note_step(report.last_step)
            case Apart() if report.generation == self.generation and self._apart_at is None:
                self._apart_at = now
            case Beat():
                self._note_step(report.step)
                if report.phase in _BUSY and report.for_s > self.rules.step_timeout_s:
                    where = {"warming": "warming up", "validating": f"validating a batch after step {report.step}"}
                    what = where.get(report.phase, f"computing step {report.step + 1}")
                    return self._drop(number, f"has been {what} for {report.for_s:.0f} s", now)
            case _:
                pass
        return []

    def _note_step(self, step: int) -> None:
        if self._step < 0 or step <= self._step:
            # The first that is heard of is where the run began.
            self._step = max(self._step, step)
            return
        self._step = step
        self.losses = 0
        self._was_apart = False
        for number in self.current:
            seat = self.seats.get(number)
            if seat is not None and seat.has_state and not seat.stepped:
                seat.stepped = True
                self._num_young = 0

    def _lose(self, number: int, cause: str, now: float) -> None:
        seat = self.seats.pop(number, None)
        if seat is None:
            return
        if seat.stepped:
            self._start_at = now
        else:
            self._delay_start(now)
        self._is_broken = self._is_broken or number in self.current
        self._count_loss(number, cause, now)

    def _delay_start(self, now: float) -> None:
        """Wait longer each time: what kills newcomers at once should not be fed as fast as it eats."""
        delay_s = self.rules.first_delay_s * 2 ** min(self._num_young, 30)
        self._num_young += 1
        self._start_at = now + min(delay_s, self.rules.longest_delay_s)

    def _count_loss(self, number: int, cause: str, now: float) -> None:
        if self.losses and now - self._loss_at <= self.rules.together_s:
            return
        self.losses += 1
        self._loss_at = now
        if self.losses == 1:
            self._first = (number, cause)

    def _find_lost(self, now: float) -> list[Action]:
        rules = self.rules
        actions: list[Action] = []
        for number, seat in list(self.seats.items()):
            if seat.heard_at is not None and now - seat.heard_at > rules.heartbeat_s:
                actions += self._drop(number, f"was silent for {now - seat.heard_at:.0f} s", now)
            elif seat.heard_at is None and now - seat.since > rules.step_timeout_s and seat.since:
                actions += self._drop(number, f"has been starting for {now - seat.since:.0f} s", now)
        if self._apart_at is not None and now - self._apart_at > rules.together_s and not self._is_broken:
            # Nobody died: what lies between them did, and may be whole again.
            self._is_broken = True
            self._count_loss(self.current[0], "the workers lost each other", now)
            if self._was_apart:
                # It is not. Fewer can meet, in the end one alone; a replacement may find itself where others reach it.
                actions += self._drop(self.current[-1], "cannot be reached by the other workers", now)
            self._was_apart = True
        if self.unready and self._published_at is not None and now - self._published_at > rules.step_timeout_s:
            self._is_broken = True
            self._count_loss(min(self.unready), "the workers did not find each other", now)
        return actions

    def _drop(self, number: int, why: str, now: float) -> list[Action]:
        self._lose(number, why, now)
        return [Kill(number, why)]

    def _is_hopeless(self) -> bool:
        return not self.can_add and len(self.seats) + self.num_asked < max(1, self.rules.least)

    def _publish(self, now: float) -> list[Action]:
        spares = [number for number, seat in self.seats.items() if seat.status == "warm"]
        if not self._is_broken and (not spares or self.unready):
            # A planned call interrupts nobody, so it must find all in the midst of their steps: who still waits for the
            # others of one generation would not hear that they have gone on to the next.
            return []
        if self.generation < 0 and (self.num_asked or len(spares) < len(self.seats)):
            # The first one waits for all: each one after it would interrupt the others again.
            return []
        numbers = tuple(number for number in self.current if number in self.seats) + tuple(sorted(spares))
        if len(numbers) < max(1, self.rules.least):
            return []
        self.generation += 1
        planned = not self._is_broken
        self.current, self._is_broken, self._apart_at = numbers, False, None
        self.unready, self._published_at = set(numbers), now
        seats = [self.seats[number] for number in numbers]
        for seat in seats:
            seat.status = "in"
        if not any(seat.has_state for seat in seats):
            # They go on from a checkpoint, which may lie behind what was heard of before.
            self._step = -1
        return [
            Publish(
                self.generation,
                numbers,
                planned=planned,
                from_checkpoint=not any(seat.has_state for seat in seats),
                one_host=len({seat.host for seat in seats}) == 1,
            )
        ]

    def _start(self, now: float) -> list[Action]:
        missing = self.rules.most - len(self.seats) - self.num_asked
        if missing <= 0 or not self.can_add or now < self._start_at:
            return []
        self.num_asked += missing
        return [Start(missing)]
