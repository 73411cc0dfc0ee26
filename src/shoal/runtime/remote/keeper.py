"""The process beside a member, on its machine: starts it as a child and passes on what both sides say.

So a member far away is the same child process as one at home, with the same `Context`, the same environment before its
first import and the same words at its end; and who takes the keeper away takes the member too.
"""

import sys
import threading
from queue import SimpleQueue

import msgspec

from shoal.base import WorkerError
from shoal.runtime.base import Exited
from shoal.runtime.frames import MESSAGE, RAW, Message, encode_message
from shoal.runtime.process import Child
from shoal.runtime.remote.line import ASKED, EXITED, FINISH, KILL, LAUNCH, REFUSED, STARTED, TERMINATE, Line
from shoal.runtime.remote.words import Birth, End, Orders


class Keeper:
    """Serves one line: at most one member. `serve` runs in one thread; `ask_to_stop` may come from a signal handler."""

    def __init__(self, line: Line, *, host: str | None = None) -> None:
        """Wait for orders.

        Args:
            line: to the supervisor.
            host: the address of this machine to tell; the line's own end unless given.
        """
        self._line = line
        self._host = host or line.own_address
        self._child: Child | None = None
        # Of their own, as a member that hangs takes no messages: the keeper must still hear that it is to be killed.
        self._messages: SimpleQueue[tuple[int, bytes] | None] = SimpleQueue()

    def serve(self) -> bytes | None:
        """Do as the supervisor says, until it hangs up or is gone; then nothing is left of the member.

        Returns:
            What the supervisor left, if it ended with that.
        """
        left = None
        while left is None and (frame := self._line.read()) is not None:
            kind, body = frame
            if kind == LAUNCH:
                self._start(msgspec.msgpack.decode(body, type=Orders))
            elif kind in {MESSAGE, RAW}:
                self._messages.put(frame)
            elif kind == TERMINATE and self._child is not None:
                self._child.terminate()
            elif kind == KILL and self._child is not None:
                self._child.kill()
            elif kind == FINISH:
                left = body
        self._messages.put(None)
        if self._child is not None:
            self._child.kill()
            # What it still says finds no way out, and need not wait for one.
            self._line.hang_up()
            self._child.wait()
        self._line.close()
        return left

    def ask_to_stop(self) -> None:
        """Tell the supervisor that the surroundings of this process want it to stop."""
        threading.Thread(target=self._line.write, args=(ASKED,), name="shoal-asked", daemon=True).start()

    def started(self, child: Child, host: str) -> None:  # noqa: ARG002  # of this machine's own making
        """Tell the supervisor."""
        self._line.write(STARTED, msgspec.msgpack.encode(Birth(pid=child.pid, host=self._host)))

    def wait_for_room(self, child: Child) -> None:
        """Nothing waits here: the line itself slows the member down."""

    def reported(self, child: Child, message: Message) -> None:  # noqa: ARG002  # there is only one
        """Pass it on."""
        self._line.write(*encode_message(message))

    def died(self, child: Child) -> None:
        """Nothing to do before its last report is out."""

    def exited(self, child: Child, event: Exited) -> None:  # noqa: ARG002  # there is only one
        """Tell the supervisor, which then hangs up."""
        self._line.write(EXITED, msgspec.msgpack.encode(End.of(event)))

    def _start(self, orders: Orders) -> None:
        # What only the supervisor's path holds may be there too, as on a shared file system.
        sys.path.extend(entry for entry in orders.import_path if entry not in sys.path)
        try:
            child = Child(orders.launch())
        except WorkerError as error:
            self._line.write(REFUSED, msgspec.msgpack.encode(End.refusal(error)))
            return
        self._child = child
        child.boot()
        child.attend(self)
        threading.Thread(target=self._pass_on, args=(child,), name="shoal-messages", daemon=True).start()

    def _pass_on(self, child: Child) -> None:
        while (frame := self._messages.get()) is not None:
            child.forward(*frame)
