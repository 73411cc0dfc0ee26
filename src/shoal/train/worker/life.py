"""A worker's life: it builds what it needs once, then takes part in one generation after another."""

from dataclasses import dataclass
from time import monotonic
from typing import Protocol

from shoal.runtime import Context, Message
from shoal.train.base import Group, PeerLostError
from shoal.train.checkpoint import load_state, read_checkpoint
from shoal.train.environment import differences
from shoal.train.group.meeting import join_group
from shoal.train.group.placing import place_group
from shoal.train.layout import exchange_device
from shoal.train.reports import Apart, Finished, Ready, Warm, Warned, WorkerReport, to_message
from shoal.train.worker.agreeing import agree
from shoal.train.worker.cautions import telling_warnings
from shoal.train.worker.checkpoints import Checkpoints
from shoal.train.worker.kit import build_kit
from shoal.train.worker.mail import Line, Mail
from shoal.train.worker.orders import Meet, Orders
from shoal.train.worker.pulse import Pulse, WatchedGroup
from shoal.train.worker.stint import Ending, Stint


class Office(Line, Protocol):
    """What a worker uses of its `Context`."""

    @property
    def rank(self) -> int:
        """The worker's number, never used again in its run."""

    def report(self, message: Message) -> None:
        """Hand a message to the supervisor."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What the runtime calls in a worker process."""

    orders: Orders

    def __call__(self, context: Context) -> None:
        """Train until the run is over, or until asked to stop."""
        with telling_warnings(context):
            Worker(self.orders, context).run()


class Worker:
    """One worker; `run` is called once."""

    def __init__(self, orders: Orders, office: Office) -> None:
        """Build the state and open the data."""
        began = monotonic()
        self._office = office
        self._mail = Mail(office)
        self._pulse = Pulse(self._tell, orders.beat_s)
        self._kit = build_kit(orders, self._mail, self._pulse, self._tell)
        self._checkpoints: Checkpoints | None = None
        self._left_at: float | None = None
        self._warned: set[str] = set()
        self._warm_s = monotonic() - began

    def run(self) -> None:
        """Take part in generations until the run is over, or this process is asked to end."""
        try:
            call = self._first_call()
            while call is not None:
                call = None if self._take_part(call) else self._next_call(call)
        finally:
            self._pulse.stop()

    def _first_call(self) -> Meet | None:
        first = self._kit.orders.first
        if first is not None and self._office.rank in first.numbers:
            self._mail.begin_with(first)
            return first
        self._tell(Warm(warm_s=self._warm_s))
        self._pulse.enter("meeting")
        return self._mail.take()

    def _next_call(self, last: Meet) -> Meet | None:
        self._pulse.enter("meeting")
        if not self._mail.has_call and not self._office.stopping.is_set():
            self._tell(Apart(generation=last.generation))
        call = self._mail.take()
        if call is None:
            self._save_at_the_end()
        return call

    def _take_part(self, call: Meet) -> bool:
        """Whether the run is over, as far as this worker is asked."""
        self._pulse.enter("meeting")
        self._kit.diary.forget(call.told)
        group: Group | None = None
        try:
            group = join_group(call.meeting(self._office.rank), self._mail.is_interrupted)
            device = exchange_device(self._kit.state.module)
            group = place_group(group, device, self._mail.is_interrupted, self._warn)
            return self._work(call, WatchedGroup(group, self._pulse))
        except PeerLostError as error:
            # Its frames hold the group's memory and connections, which are to be let go of now.
            error.__traceback__ = None
            self._kit.state.logged.discard()
            return False
        finally:
            self._left_at = monotonic()
            if group is not None:
                # Gradients lie in the group's memory.
                self._kit.state.module.zero_grad(set_to_none=True)
                group.close()

    def _work(self, call: Meet, group: Group) -> bool:
        kit = self._kit
        is_copied = agree(
            kit.state, kit.diary, group, checkpoint_step=call.checkpoint_step, load=lambda: self._load(call, group)
        )
        kit.pulse.step = kit.state.position.step
        if group.rank == 0 and self._checkpoints is None:
            self._checkpoints = Checkpoints(kit, call.told.saved)
        stint = Stint(kit, group, self._checkpoints)
        self._tell(
            Ready(
                generation=call.generation,
                step=kit.state.position.step,
                pause_s=None if self._left_at is None else monotonic() - self._left_at,
                copied=is_copied,
            )
        )
        ending = stint.run()
        if ending is Ending.FINISHED:
            self._tell(Finished(step=kit.state.position.step, why=stint.why_ended))
        return ending is not Ending.LEFT

    def _load(self, call: Meet, group: Group) -> None:
        assert call.checkpoint is not None
        checkpoint = read_checkpoint(call.checkpoint)
        load_state(checkpoint, self._kit.state)
        changes = differences(checkpoint.environment, self._kit.environment)
        if changes and group.rank == 0:
            self._warn(f"not bit-identical from here: {'; '.join(changes)}")

    def _save_at_the_end(self) -> None:
        """Asked to end in the middle of a run: what is done stays done."""
        if self._checkpoints is not None:
            self._pulse.enter("saving")
            for report in self._kit.diary.take():
                self._tell(report)
            self._checkpoints.save(self._kit.state)
            self._checkpoints.close()

    def _warn(self, text: str) -> None:
        # Once: each generation would find the same.
        if text not in self._warned:
            self._warned.add(text)
            self._tell(Warned(text=text))

    def _tell(self, report: WorkerReport) -> None:
        self._office.report(to_message(report))
