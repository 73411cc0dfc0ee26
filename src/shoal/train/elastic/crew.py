"""The workers of a run, from their start to the end of its last step: what the membership decides is done here."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic

from shoal.base import ShoalError, UnsupportedError
from shoal.runtime import Code, Exited, Gang, LocalRuntime, Member, Report, Resources, Runtime, Started
from shoal.store import Run
from shoal.train.checkpoint import Checkpoint, newest_checkpoint
from shoal.train.device import VARIABLES
from shoal.train.elastic.failures import Kept, describe_end, divergence, is_mistake, not_saved, too_many_losses
from shoal.train.elastic.membership import (
    Action,
    Came,
    Event,
    GiveUp,
    Gone,
    Heard,
    Kill,
    Look,
    Membership,
    NotStarted,
    Publish,
    Rules,
    Start,
)
from shoal.train.elastic.record_keeping import RecordKeeper
from shoal.train.group.meeting import Kind, MeetingPlace
from shoal.train.plan import Plan
from shoal.train.reports import Diverged, Finished, Ready, Unsaved, Warm, WorkerReport, from_message
from shoal.train.worker.life import Entry
from shoal.train.worker.orders import Meet, Orders

# To look for silence, and for replacements that are due.
_LOOK_EVERY_S = 0.25
# With it comes torch, and all else that a worker imports.
_PRELOAD = (Entry.__module__,)
# To finish what is at hand and write a checkpoint, before a worker is killed.
_GRACE_S = 30.0
# For a store to take a checkpoint, beside the time that its bytes need on a slow line: stores are away for minutes.
_SAVING_S = 600.0


def prepare_workers(runtime: Runtime, plan: Plan) -> None:
    """Let what workers need be loaded while their run is prepared, where the runtime can do that."""
    if isinstance(runtime, LocalRuntime):
        runtime.prepare(Code.of(Entry, preload=_PRELOAD), environment=_environment(plan))


def _environment(plan: Plan) -> dict[str, str]:
    # The pool of threads is made when torch is loaded, before any code of ours could ask for another size. The others
    # are read when CUDA starts, and are set in any case, so that one server can fork the workers of all runs.
    return {"OMP_NUM_THREADS": str(plan.threads), **VARIABLES}


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """What a run works with: its plan, its record, its rules, and where its workers, devices and checkpoints are."""

    plan: Plan
    run: Run
    keeper: RecordKeeper
    rules: Rules
    runtime: Runtime
    checkpoints: str
    device: str | None = None

    @property
    def need(self) -> Resources:
        """Of one worker. On one machine all see its GPUs; elsewhere one that is asked for is lent to it alone."""
        asks = (self.device or "").startswith("cuda") and not isinstance(self.runtime, LocalRuntime)
        return Resources(cpus=self.plan.threads, gpus=int(asks))


@dataclass(slots=True)
class _Change:
    """A generation on its way: who has not said yet that it is ready, and how long the others stood still."""

    publish: Publish
    since: float
    waiting: set[int]
    cause: str
    pause_s: float = 0.0
    step: int = 0


class Crew:
    """All workers of one attempt. One thread, one use."""

    def __init__(self, site: Site, checkpoint: Checkpoint | None, on_first_step: Callable[[], None]) -> None:
        """Prepare to go on from a checkpoint, or from the beginning."""
        self._site = site
        self._on_first_step = on_first_step
        ((self._role, num),) = site.plan.strategy.roles(site.rules.most).items()
        self._place = MeetingPlace()
        self._ends: list[Exited] = []
        self._finished: Finished | None = None
        self._change: _Change | None = None
        self._checkpoint = checkpoint
        # On one machine the first generation is known beforehand; elsewhere it depends on where they are placed.
        self._members = (
            Membership(rules=site.rules, started_with=num)
            if isinstance(site.runtime, LocalRuntime)
            else Membership(rules=site.rules, num_asked=num)
        )
        # Who took part in the last generation that came to its first step.
        self._present: frozenset[int] = frozenset()
        self._cause = ""
        self._rewound = (0, 0)
        # The first generation that goes on from a checkpoint, until a member of it or a later one says at which step.
        self._rewinding: int | None = None
        # Of the generations before this one nothing is left under any name.
        self._cleaned = 0

    def work(self) -> Finished:
        """Return when the run is over.

        Raises:
            WorkerError: the task's own code raised in a worker, or workers were lost more often than allowed.
            DivergedError: a loss was not finite.
            ShoalError: the last checkpoint could not be written, as StorageFullError or RemoteError says.
        """
        try:
            with self._start() as self._gang:
                try:
                    while self._finished is None:
                        self._follow()
                except KeyboardInterrupt:
                    self._end_in_order()
                    raise
                # Nobody waits for a second until interpreters with torch in them have taken themselves apart.
                self._gang.stop(0.0)
                # The first to be heard of the end need not be the one that told all else.
                self._take_rest()
        finally:
            self._clean_before(self._members.generation + 1)
            self._place.close()
        return self._finished

    def _start(self) -> Gang:
        site = self._site
        members = self._members
        first = None
        if members.generation == 0:
            first = self._meet(Publish(0, members.current, planned=True, from_checkpoint=True, one_host=True))
            self._expect(first.generation, members.current, "the start")
        orders = Orders(
            plan=site.plan,
            checkpoints=site.checkpoints,
            first=first,
            beat_s=min(1.0, site.rules.heartbeat_s / 5),
            saving_s=max(_SAVING_S, site.rules.step_timeout_s),
            device=site.device,
        )
        code = Code.of(Entry(orders), preload=_PRELOAD)
        return site.runtime.gang({self._role: (code, site.rules.most, site.need)}, environment=_environment(site.plan))

    def _follow(self) -> None:
        """Take events until there are none for a moment."""
        look_at = monotonic() + _LOOK_EVERY_S
        for event in self._gang.events(_LOOK_EVERY_S):
            self._take(event)
            if self._finished is not None:
                return
            if monotonic() >= look_at:
                break
        self._decide(Look())
        if self._gang.is_over:
            # Nothing to wait on until others are started.
            time.sleep(_LOOK_EVERY_S / 10)

    def _take(self, event: Started | Report | Exited) -> None:
        number = event.member.rank
        match event:
            case Started():
                self._decide(Came(number, event.host))
            case Report():
                report = from_message(event.message)
                self._hear(number, report)
                self._decide(Heard(number, report))
            case Exited():
                if is_mistake(event) and event.failure is not None:
                    failure = event.failure
                    self._site.run.event(
                        "worker_failed", worker=number, message=failure.message, detail=failure.traceback_text
                    )
                    raise failure
                self._ends.append(event)
                self._decide(Gone(number, describe_end(event)))

    def _hear(self, number: int, report: WorkerReport) -> None:
        match report:
            case Ready():
                if self._rewinding is not None and report.generation >= self._rewinding:
                    # Told before its first step by the one who tells of steps: what was told later is told anew.
                    self._rewinding = None
                    self._site.keeper.rewind(report.step)
                self._note_ready(number, report)
            case Warm():
                self._site.run.event("worker_warm", worker=number, warm_s=round(report.warm_s, 3))
            case Diverged():
                raise divergence(report, self._site.run.id, self._kept())
            case Unsaved():
                raise not_saved(report)
            case Finished():
                self._finished = self._finished or report
            case _:
                self._site.keeper.take(report)

    def _decide(self, event: Event) -> None:
        before = set(self._members.seats)
        actions = self._members.decide(event, monotonic())
        if isinstance(event, Gone) and event.number in before:
            self._note_loss(event.number, event.cause)
        for action in actions:
            self._do(action)

    def _do(self, action: Action) -> None:
        match action:
            case Publish():
                call = self._meet(action)
                for number in action.numbers:
                    self._gang.send(Member(self._role, number), call.to_message())
                self._expect(action.generation, action.numbers, self._cause if not action.planned else "newcomers")
            case Kill():
                self._note_loss(action.number, f"{self._role} {action.number} {action.why}")
                self._gang.kill(Member(self._role, action.number))
            case Start():
                self._add(action.num)
            case GiveUp():
                site = self._site
                raise too_many_losses(
                    site.run.id,
                    number=action.number,
                    cause=action.cause,
                    losses=action.losses,
                    retries=site.rules.retries,
                    checkpoint=self._kept(),
                    ends=self._ends,
                )

    def _kept(self) -> Kept:
        """The newest checkpoint for the words of an error, whose cause must not make way for what the store says."""
        try:
            return newest_checkpoint(self._site.checkpoints)
        except (ShoalError, OSError) as error:
            return error

    def _meet(self, publish: Publish) -> Meet:
        """The call to a generation."""
        place, generation = self._place, publish.generation
        kind: Kind = "solo"
        name = ""
        if len(publish.numbers) > 1:
            kind = "shared" if publish.one_host else "network"
            hosts = [self._members.seats[number].host for number in publish.numbers]
            name = place.shared_name(generation) if publish.one_host else place.network_name(generation, hosts)
        if publish.from_checkpoint and generation > 0:
            self._rewind(generation)
        checkpoint = self._checkpoint if publish.from_checkpoint else None
        return Meet(
            generation=generation,
            numbers=publish.numbers,
            kind=kind,
            name=name,
            planned=publish.planned,
            checkpoint=None if checkpoint is None else checkpoint.address,
            checkpoint_step=-1 if checkpoint is None else checkpoint.position.step,
            told=self._site.keeper.told,
        )

    def _rewind(self, generation: int) -> None:
        """Nobody is known to hold the state: say what is done again."""
        site = self._site
        if self._rewinding is None:
            self._rewinding = generation
        self._checkpoint = newest_checkpoint(site.checkpoints)
        before, after = site.keeper.step, 0 if self._checkpoint is None else self._checkpoint.position.step
        # Once for each loss: another call may follow before any of them has said that it holds the state now.
        if before > after and self._rewound != (before, after):
            self._rewound = before, after
            site.run.event("rewound", from_step=before, to_step=after)
            site.keeper.say(f"all workers were lost: going on after step {after}, {before - after} steps again")

    def _add(self, num: int) -> None:
        try:
            self._gang.add(self._role, num)
        except ShoalError as error:
            self._decide(NotStarted(num, error.message, for_good=isinstance(error, UnsupportedError)))

    def _expect(self, generation: int, numbers: tuple[int, ...], cause: str) -> None:
        publish = Publish(generation, numbers, planned=False, from_checkpoint=False, one_host=True)
        self._change = _Change(publish, monotonic(), set(numbers), cause)

    def _note_loss(self, number: int, cause: str) -> None:
        self._cause = cause
        keeper = self._site.keeper
        self._site.run.event("worker_lost", worker=number, cause=cause, step=keeper.step, left=len(self._members.seats))
        keeper.say(f"{cause} after step {keeper.step}")

    def _note_ready(self, number: int, report: Ready) -> None:
        change = self._change
        if change is None or report.generation != change.publish.generation:
            return
        change.waiting.discard(number)
        change.pause_s = max(change.pause_s, report.pause_s or 0.0)
        change.step = report.step
        if change.waiting:
            return
        self._change = None
        self._on_first_step()
        self._clean_before(report.generation)
        self._site.run.event(
            "generation",
            generation=report.generation,
            workers=list(change.publish.numbers),
            step=change.step,
            because=change.cause,
            pause_ms=round(1e3 * change.pause_s, 3),
            called_ms=round(1e3 * (monotonic() - change.since), 3),
        )
        if report.generation:
            came = [
                f"{self._role} {number} joined; " for number in change.publish.numbers if number not in self._present
            ]
            num = len(change.publish.numbers)
            self._site.keeper.say(
                f"{''.join(came)}going on with {num} worker{'s' if num > 1 else ''}; "
                f"pause {1e3 * change.pause_s:.0f} ms"
            )
        self._present = frozenset(change.publish.numbers)

    def _end_in_order(self) -> None:
        """Let the workers write a checkpoint, and take what they still have to tell."""
        site = self._site
        site.keeper.stop_showing()
        self._gang.stop(_GRACE_S)
        self._take_rest()
        site.run.event("interrupted", step=site.keeper.step, checkpoint_step=site.keeper.told.saved)

    def _take_rest(self) -> None:
        """What workers that are gone now had still told."""
        for event in self._gang.events(0.0):
            if isinstance(event, Report):
                self._site.keeper.take(from_message(event.message))

    def _clean_before(self, generation: int) -> None:
        """Also those that were replaced before they had met: one that died in between may have left its memory."""
        for past in range(self._cleaned, generation):
            self._place.clean(past)
        self._cleaned = max(self._cleaned, generation)
