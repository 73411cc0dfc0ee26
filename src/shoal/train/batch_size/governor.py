"""Who says how many rows the next step has: always the same, as recorded, or as measured so far.

A member's governor is made when it joins a group. All members' governors come to the same, as they decide by what lies
in the state alone; the one thing that differs between members, measured time, is taken from the first of them.
"""

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

import msgspec
import torch

from shoal.train.base import Group, StepOutcome, TrainState
from shoal.train.batch_size.noise import Noise, useful_rows
from shoal.train.batch_size.policy import Choice, choose, ladder
from shoal.train.batch_size.rates import NAME, facts_of, set_pace
from shoal.train.batch_size.settings import AdaptiveBatch, Scaling
from shoal.train.plan import Plan
from shoal.train.reports import Resized

# Gradients are divided by their size: a batch that is worth k steps bears a rate higher by the root of k.
_LIKE_ADAM = (
    torch.optim.Adam,
    torch.optim.AdamW,
    torch.optim.Adamax,
    torch.optim.NAdam,
    torch.optim.RAdam,
    torch.optim.RMSprop,
    torch.optim.Adagrad,
    torch.optim.Adadelta,
)
# Of a size's earlier time, this share stays when it is timed anew.
_KEPT = 0.5
# A learning rate that differs by less is left as it is: each change is an entry in the run's record.
_NOTEWORTHY = 1.05

Note = Callable[[Resized], None]


class Governor(Protocol):
    """Asked before each step, and told what came of it; both by every member."""

    @property
    def measures_noise(self) -> bool:
        """Whether the strategy is to measure the gradients' noise."""

    def begin_step(self) -> int:
        """Return the rows of a batch from here on, and prepare the state for a step of that size.

        Raises:
            PeerLostError: a member was lost; the state is whole, and this governor of no further use.
        """

    def end_step(self, outcome: StepOutcome, rows: Sequence[int], seconds: float) -> None:
        """Take in a step whose micro-batches had so many rows each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """What does not change in a run: batches per step, rows of an epoch, and rows of the first batch."""

    accumulate: int
    num_rows: int
    first_size: int

    def set(self, state: TrainState, size: int, lr_factor: float) -> None:
        """Prepare the state for a step with batches of `size` rows."""
        set_pace(
            state,
            lr_factor=lr_factor,
            step_rows=size * self.accumulate,
            first_rows=self.first_size * self.accumulate,
            num_rows=self.num_rows,
        )


@dataclass(frozen=True, slots=True)
class Fixed:
    """The same size always."""

    size: int
    measures_noise: bool = False

    def begin_step(self) -> int:
        """The size."""
        return self.size

    def end_step(self, outcome: StepOutcome, rows: Sequence[int], seconds: float) -> None:
        """Nothing to learn."""


class Recorded:
    """The sizes of an earlier run, from the same steps on."""

    measures_noise = False

    def __init__(self, schedule: Sequence[tuple[int, int, float]], pace: Pace, state: TrainState, note: Note) -> None:
        """Take (step, size, factor of the learning rate), by step; `note` writes changes down."""
        self._schedule = schedule
        self._pace = pace
        self._state = state
        self._notes = _Notes(note)

    def begin_step(self) -> int:
        """As recorded; behind its end the last size stays."""
        step = self._state.position.step
        _, size, lr_factor = [change for change in self._schedule if change[0] <= step][-1]
        self._pace.set(self._state, size, lr_factor)
        self._notes.begin(step, size, lr_factor, {})
        return size

    def end_step(self, outcome: StepOutcome, rows: Sequence[int], seconds: float) -> None:
        """Only noted: there is nothing to learn."""
        del outcome, rows, seconds
        self._notes.end()


class Adapting:
    """A size that is thought over every so many steps."""

    measures_noise = True

    def __init__(
        self, settings: AdaptiveBatch, pace: Pace, state: TrainState, group: Group, *, num_parts: int, note: Note
    ) -> None:
        """Agree with the other members on what was decided last.

        Args:
            settings: what the user allows.
            pace: what stays the same.
            state: the same as that of all others, but for the last decision, which some may have missed.
            group: just joined.
            num_parts: micro-batches per batch.
            note: writes changes down.

        Raises:
            PeerLostError: a member was lost.
        """
        self._settings = settings
        self._pace = pace
        self._state = state
        self._group = group
        self._sizes = ladder(settings, num_parts)
        self._scaling = _scaling(settings.scaling, state)
        self._momentum = momentum_of(state.optimizers)
        self._notes = _Notes(note)
        # Seconds of steps of the present size. The first step of a group or of a size finds cold memory: not timed.
        self._timed: list[float] = []
        self._fixed: list[float] = []
        self._is_cold = True
        self._agree()

    def begin_step(self) -> int:
        """As decided last; the decision itself is made here, where all members stand after the same step."""
        facts, step = facts_of(self._state), self._state.position.step
        if step - facts["decided"] >= self._patience(facts):
            self._decide(step)
        facts = facts_of(self._state)
        self._pace.set(self._state, facts["rows"], facts["lr_factor"])
        self._notes.begin(step, facts["rows"], facts["lr_factor"], facts["why"])
        return int(facts["rows"])

    def end_step(self, outcome: StepOutcome, rows: Sequence[int], seconds: float) -> None:
        """Learn from the gradients of any step, and from the time of those with a full batch."""
        facts = facts_of(self._state)
        num_rows, num_parts = sum(rows), sum(each > 0 for each in rows)
        if num_parts > 1 and math.isfinite(outcome.part_square) and math.isfinite(outcome.whole_square):
            noise = Noise(**facts["noise"])
            # As rows weigh alike, uneven parts come to the same as even ones.
            noise = noise.after(outcome.part_square, outcome.whole_square, num_rows / num_parts, num_rows)
            facts["noise"] = asdict(noise)
        if num_rows == facts["rows"] * self._pace.accumulate:
            if not self._is_cold:
                self._timed.append(seconds)
                self._fixed.append(outcome.exchange_s + outcome.update_s)
            self._is_cold = False
        self._notes.end()

    def _patience(self, facts: dict[str, Any]) -> int:
        """Sooner as long as little is known: the first size is a guess of the user's, and the second one of ours."""
        every = self._settings.every_steps
        return every if len(facts["timed"]) > 1 else -(-every // 2)

    def _agree(self) -> None:
        """Some may have got through the last exchange of times, and others not: the newest decision holds for all."""
        new = {
            "rows": self._settings.min,
            "lr_factor": 1.0,
            "noise": asdict(Noise()),
            "timed": [],
            "workers": self._group.size,
            "decided": self._state.position.step,
            "why": {},
        }
        told = self._group.share(msgspec.json.encode({**new, **self._state.extras.get(NAME, {})}))
        facts = max((msgspec.json.decode(each) for each in told), key=lambda each: each["decided"])
        if facts["workers"] != self._group.size:
            facts.update(workers=self._group.size, timed=[])
        self._state.extras[NAME] = facts

    def _decide(self, step: int) -> None:
        facts = dict(facts_of(self._state))
        facts["decided"] = step
        facts["timed"], fixed_s = self._exchange_times(facts)
        noise, timed = Noise(**facts["noise"]), dict(facts["timed"])
        if noise.weight and facts["rows"] in timed:
            rows = useful_rows(noise.rows, self._momentum) / self._pace.accumulate
            choice = choose(self._settings, self._sizes, facts["rows"], rows, timed, self._scaling, fixed_s=fixed_s)
            if choice.rows != facts["rows"]:
                self._is_cold = True
            facts.update(rows=choice.rows, lr_factor=self._steady(facts, choice), why=_why(choice))
        self._timed, self._fixed = [], []
        self._state.extras[NAME] = facts

    def _exchange_times(self, facts: dict[str, Any]) -> tuple[list[list[float]], float]:
        """Seconds by size as the first member has measured them, and what is fixed of the present size's."""
        mine = [statistics.median(each) for each in (self._timed, self._fixed) if each and self._group.rank == 0]
        found = msgspec.json.decode(self._group.share(msgspec.json.encode(mine))[0])
        timed = dict(facts["timed"])
        for seconds in found[:1]:
            before = timed.get(facts["rows"], seconds)
            timed[facts["rows"]] = _KEPT * before + (1 - _KEPT) * seconds
        return [[rows, timed[rows]] for rows in sorted(timed)], (found[1] if found else 0.0)

    def _steady(self, facts: dict[str, Any], choice: Choice) -> float:
        """The new factor; the old one where it is as good, as each change is written down."""
        old: float = facts["lr_factor"]
        is_same = choice.rows == facts["rows"] and 1 / _NOTEWORTHY < choice.lr_factor / old < _NOTEWORTHY
        return old if is_same else choice.lr_factor


@dataclass(slots=True)
class _Notes:
    """Writes a change down with the first step that was done with it: before that, nothing has come of it."""

    note: Note
    _next: Resized | None = None
    _last: tuple[int, float] | None = field(default=None)

    def begin(self, step: int, size: int, lr_factor: float, facts: dict[str, float]) -> None:
        self._next = Resized(step=step, size=size, lr_factor=lr_factor, facts=facts)

    def end(self) -> None:
        assert self._next is not None
        if self._last != (present := (self._next.size, self._next.lr_factor)):
            self.note(self._next)
            self._last = present


def make_governor(plan: Plan, state: TrainState, group: Group, *, num_rows: int, note: Note) -> Governor:
    """What a plan asks for.

    Args:
        plan: the run's.
        state: this member's, from where it goes on.
        group: just joined.
        num_rows: of an epoch.
        note: writes changes down, with the first step done after them.

    Raises:
        PeerLostError: a member was lost.
    """
    pace = Pace(accumulate=plan.accumulate, num_rows=num_rows, first_size=plan.first_batch_size)
    if plan.schedule:
        return Recorded(plan.schedule, pace, state, note)
    if isinstance(plan.batch_size, AdaptiveBatch):
        return Adapting(plan.batch_size, pace, state, group, num_parts=plan.num_parts, note=note)
    return Fixed(plan.batch_size)


def _scaling(wanted: Scaling, state: TrainState) -> Scaling:
    if wanted != "auto":
        return wanted
    return "sqrt" if any(isinstance(optimizer, _LIKE_ADAM) for optimizer in state.optimizers) else "adascale"


def momentum_of(optimizers: Sequence[torch.optim.Optimizer]) -> float:
    """The share of the last step's direction that is in the next, 0 where there is none; the least of all groups'."""
    groups = [group for optimizer in optimizers for group in optimizer.param_groups]
    found = [group["betas"][0] if "betas" in group else group.get("momentum", 0.0) for group in groups]
    return min(max(float(min(found)), 0.0), 0.99)


def _why(choice: Choice) -> dict[str, float]:
    return {"noise_rows": choice.noise_rows, "rows_per_s": choice.rows_per_s, "worth": choice.worth}
