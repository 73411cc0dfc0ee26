"""A member on another machine, as the supervisor holds it: the far end's counterpart of a child process."""

import logging
import signal
import threading
from collections.abc import Iterable
from time import monotonic
from typing import Protocol

import msgspec

from shoal.base import WorkerError
from shoal.runtime.base import Exited
from shoal.runtime.frames import Message, decode_message, encode_message
from shoal.runtime.remote.line import ASKED, EXITED, KILL, LAUNCH, REFUSED, STARTED, TERMINATE, Line
from shoal.runtime.remote.words import Birth, End, Orders
from shoal.runtime.running import Launch, Listener, Running

# How long a keeper may take to kill its member before it is taken away itself.
_KILL_S = 3.0
# How often a start that waits says so.
_PROGRESS_S = 10.0

_log = logging.getLogger(__name__)


class Host(Protocol):
    """Who provides the keeper of one member. Any thread may call any method."""

    def connect(self) -> Line | None:
        """The keeper's line, once it has called; None when it never will."""

    def explain(self) -> str:
        """Why the keeper never called, or was lost; may take a second."""

    def asked_to_stop(self) -> None:
        """Learn that the surroundings of the member's keeper want it to stop."""

    def release(self) -> None:
        """Take the keeper away, at once and with its member, or stop waiting for it. Idempotent."""


class RemoteChild:
    """A member that is kept elsewhere; keeps the promises of `Running`. One thread serves it."""

    def __init__(self, launch: Launch, host: Host) -> None:
        self.member = launch.member
        self.pid = 0
        self.is_dead = False
        self.is_ending = False
        self._host = host
        self._sending = threading.Lock()
        self._line: Line | None = None
        self._waiting = [(LAUNCH, msgspec.msgpack.encode(Orders.of(launch)))]
        self._stop_asked = False
        self._overdue: threading.Timer | None = None
        self._gone = threading.Event()
        self._known = threading.Event()
        self.failure: WorkerError | None = None

    def boot(self) -> None:
        """Nothing to do: the orders go out as soon as the keeper calls."""

    def attend(self, listener: Listener) -> None:
        """Begin to listen."""
        self._listener = listener
        name = f"shoal-{self.member.role}-{self.member.rank}"
        threading.Thread(target=self._live, name=name, daemon=True).start()

    def discard(self) -> None:
        """Take back a member that nobody attends."""
        self._host.release()

    def wait_until_known(self, timeout_s: float | None) -> bool:
        """Return when the process exists, or never will; False if `timeout_s` passed first."""
        return self._known.wait(timeout_s)

    def send(self, message: Message) -> None:
        """Hand it a message, as soon as it is there; lost when it is dead."""
        self._write(*encode_message(message))

    def terminate(self) -> None:
        """Ask it to stop (SIGTERM); one that was still to come does not come."""
        self._stop_asked = True
        self._end(TERMINATE)

    def kill(self) -> None:
        """End it now; take the keeper away where that does not help."""
        self._end(KILL)
        with self._sending:
            if self._overdue is None and not self.is_dead:
                self._overdue = threading.Timer(_KILL_S, self._host.release)
                self._overdue.daemon = True
                self._overdue.start()

    def wait(self, timeout_s: float | None = None) -> bool:
        """Return when it is gone and all was told; False if `timeout_s` passed first."""
        return self._gone.wait(timeout_s)

    def _end(self, kind: int) -> None:
        if self._line is None:
            self._host.release()
        self._write(kind, b"")
        self.is_ending = True
        self._listener.died(self)

    def _write(self, kind: int, body: bytes | bytearray | memoryview) -> None:
        with self._sending:
            if self._line is not None:
                self._line.write(kind, body)
            elif not self.is_dead:
                self._waiting.append((kind, bytes(body)))

    def _live(self) -> None:
        line = self._host.connect()
        end = None
        if line is not None:
            with self._sending:
                self._line = line
                for kind, body in self._waiting:
                    line.write(kind, body)
            end = self._listen(line)
        if end is None:
            end = self._lost(was_there=line is not None)
        self.failure = end.failure
        self.is_dead = self.is_ending = True
        self._known.set()
        self._listener.died(self)
        with self._sending:
            self._waiting.clear()
            if self._overdue is not None:
                self._overdue.cancel()
        if line is not None:
            line.close()
        self._host.release()
        self._listener.exited(self, end)
        self._gone.set()

    def _listen(self, line: Line) -> Exited | None:
        """Pass on what the member says, up to its end; None if the keeper is lost before it tells."""
        while True:
            self._listener.wait_for_room(self)
            frame = line.read()
            if frame is None:
                return None
            kind, body = frame
            if kind == STARTED:
                birth = msgspec.msgpack.decode(body, type=Birth)
                self.pid = birth.pid
                self._listener.started(self, birth.host)
                self._known.set()
            elif kind in {EXITED, REFUSED}:
                return msgspec.msgpack.decode(body, type=End).event(self.member)
            elif kind == ASKED:
                self._host.asked_to_stop()
            else:
                self._listener.reported(self, decode_message(kind, body))

    def _lost(self, *, was_there: bool) -> Exited:
        failure = None
        if not self._stop_asked:
            member = self.member
            how = "was lost, and counts as killed by SIGKILL" if was_there else "could not be started"
            failure = WorkerError(
                f"{member.role} {member.rank} {how}: {self._host.explain()}",
                next_step="look at the machine that it ran on: memory, network, or somebody who ended it",
                role=member.role,
                rank=member.rank,
                pid=self.pid or None,
            )
        return Exited(self.member, self.pid, None, signal.SIGKILL, failure)


def wait_until_there(children: Iterable[Running]) -> None:
    """Return when the processes of all remote members among these exist, and say so while it takes long.

    Raises:
        WorkerError: one of them will never be there.
    """
    began = monotonic()
    for child in children:
        if not isinstance(child, RemoteChild):
            continue
        member = child.member
        while not child.wait_until_known(_PROGRESS_S):
            _log.warning("waiting for %s %d to start for %.0f s", member.role, member.rank, monotonic() - began)
        if child.pid == 0 and child.failure is not None:
            raise child.failure
