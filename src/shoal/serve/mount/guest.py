"""A front in the event loop of another program. To its supervisor it is a service like the fronts' processes."""

import asyncio
import socket
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from queue import Empty, SimpleQueue
from time import monotonic
from typing import Any, Self, cast

from shoal.base import UnsupportedError, WorkerError
from shoal.runtime import Code, Context, Event, Exited, Member, Message, Report, Started
from shoal.serve.fronts.front import Front

_MEMBER = Member("front", 0)
# It has no process of its own, and what its host has made in shared memory is not to be removed after it.
_NO_PID = 0
# How often a stop that waits looks whether the host's loop was closed under the front.
_LOOK_S = 0.1


class Line:
    """What a front in its host's process has in place of a member's `Context`. Any thread may call any method."""

    def __init__(self, tell: Callable[[Message], None]) -> None:
        """Hand what the front reports to `tell`, which must not wait."""
        self.rank = _MEMBER.rank
        self.stopping = threading.Event()
        self.report = tell
        self._messages: SimpleQueue[Message] = SimpleQueue()
        self._wake, self._waker = socket.socketpair()
        self._wake.setblocking(False)
        self._waker.setblocking(False)

    def send(self, message: Message) -> None:
        """Hand the front a message."""
        self._messages.put(message)
        self._nudge()

    def receive(self) -> Message:
        """The next message; None when the front should stop."""
        return None if self.stopping.is_set() else self._messages.get()

    def receive_nowait(self) -> Message:
        """The next message that is already here, else None."""
        # First, so that what is sent from here on wakes the loop again.
        with suppress(OSError):
            self._wake.recv(4096)
        with suppress(Empty):
            return self._messages.get_nowait()
        return None

    def fileno(self) -> int:
        """For the event loop: readable once a message came or the front should stop."""
        return self._wake.fileno()

    def stop(self) -> None:
        """Ask the front to end."""
        self.stopping.set()
        # For one that waits for its first message.
        self._messages.put(None)
        self._nudge()

    def close(self) -> None:
        """Let both ends go."""
        self._wake.close()
        self._waker.close()

    def _nudge(self) -> None:
        # Full of earlier bytes, or the front has ended.
        with suppress(OSError):
            self._waker.send(b"\0")


class GuestFront:
    """The front of one server, run in a loop that is there already: a `Service` of one member. Any thread may call it.

    The member's entry runs in a thread, as it would in a process of its own, until there is a front, which the loop
    runs. It is not started again when it ends: then its loop has ended, or soon will have.
    """

    restarts = 0

    def __init__(self, loop: asyncio.AbstractEventLoop, *, linger: Callable[[], Awaitable[None]]) -> None:
        """Know the loop; `start` starts the front.

        Args:
            loop: of the host.
            linger: awaited in the loop when the front has ended, so that a loop that ends waits for what is left to do.
        """
        self.front: Front | None = None
        self._loop = loop
        self._linger = linger
        self._events: SimpleQueue[Event | None] = SimpleQueue()
        self._line: Line | None = None
        self._served: Future[None] = Future()
        self._thread: threading.Thread | None = None
        self._stay: asyncio.Task[None] | None = None
        self._has_left = self._is_over = False

    def start(self, code: Code) -> Self:
        """Start the front that this code runs."""
        line = self._line = Line(lambda message: self._events.put(Report(_MEMBER, message)))
        self._thread = threading.Thread(target=self._run, args=(code, line), name="shoal-guest", daemon=True)
        self._events.put(Started(_MEMBER, _NO_PID))
        self._thread.start()
        return self

    @property
    def is_over(self) -> bool:
        """Whether the front has ended and every event was taken."""
        return self._is_over

    def pids(self) -> Mapping[int, int]:
        """None: the host's process is nobody's to kill."""
        return {}

    def events(self, timeout_s: float | None = None) -> Iterator[Event]:
        """What happens to the front, as `Service.events` promises."""
        with suppress(Empty):
            while not self._is_over:
                event = self._events.get(timeout=timeout_s)
                if event is None:
                    self._is_over = True
                else:
                    yield event

    def send(self, rank: int, message: Message) -> None:  # noqa: ARG002  # there is one
        """Hand the front a message."""
        if self._line is not None:
            self._line.send(message)

    def add(self, num: int = 1) -> None:
        """There is one front in a loop.

        Raises:
            UnsupportedError: always.
        """
        raise UnsupportedError(
            f"cannot add {num} fronts to an event loop", next_step="start more of the host's workers"
        )

    def remove(self, num: int = 1, *, grace_s: float = 5.0) -> None:  # noqa: ARG002  # the one front
        """End the front, as `stop` does."""
        self.stop(grace_s)

    def kill(self, rank: int) -> None:
        """Do nothing: the host's process is nobody's to kill."""

    def stop(self, grace_s: float = 5.0) -> None:
        """Return when the front has ended, or `grace_s` is over; not from the loop's own thread. Idempotent."""
        if self._line is not None:
            self._line.stop()
        deadline_s = monotonic() + grace_s
        while self._thread is not None and self._thread.is_alive() and monotonic() < deadline_s:
            self._thread.join(_LOOK_S)
            if self._loop.is_closed():
                # It will not come to an end in there any more.
                self._served.cancel()
        self._events.put(None)

    def leave(self) -> None:
        """End the front as its loop's end would: its supervisor hears of a failure. For the loop's own thread."""
        self._has_left = True
        if self._stay is not None:
            self._stay.cancel()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def _run(self, code: Code, line: Line) -> None:
        failure = None

        def take_in(front: Front, serving: Coroutine[Any, Any, None]) -> None:
            self._take_in(front, serving, line)

        try:
            code.resolve()(cast("Context", line), **code.config, loop=take_in)
        except CancelledError:
            pass
        except BaseException as error:  # noqa: BLE001  # the boundary: as in a process, it goes to the supervisor
            failure = _ended(f"with {type(error).__name__}: {error}", error)
        if failure is None and not line.stopping.is_set():
            failure = _ended("with its loop")
        line.close()
        self._events.put(Exited(_MEMBER, _NO_PID, 0, None, failure))
        self._events.put(None)

    def _take_in(self, front: Front, serving: Coroutine[Any, Any, None], line: Line) -> None:
        self.front = front

        def begin() -> None:
            if self._has_left:
                serving.close()
                self._served.cancel()
                return
            self._stay = self._loop.create_task(self._serve(serving, line), name="shoal front")

        try:
            self._loop.call_soon_threadsafe(begin)
        except RuntimeError:
            # The loop was closed before the front was there.
            serving.close()
            return
        try:
            self._served.result()
        finally:
            if self._stay is None:
                # The loop was closed before it came to it.
                serving.close()

    async def _serve(self, serving: Coroutine[Any, Any, None], line: Line) -> None:
        error = None
        try:
            await serving
        except BaseException as found:  # noqa: BLE001  # the boundary: whatever ends it goes to the front's thread
            error = found
        # Where it ended in disorder: the descriptor will soon mean another file.
        self._loop.remove_reader(line.fileno())
        self._end(error)
        await self._linger()

    def _end(self, error: BaseException | None) -> None:
        # A stop that saw the loop closed has given it up.
        if self._served.set_running_or_notify_cancel():
            if error is None:
                self._served.set_result(None)
            else:
                self._served.set_exception(error)


def _ended(how: str, error: BaseException | None = None) -> WorkerError:
    found = WorkerError(
        f"the front ended {how}",
        next_step="look at what the host's loop did; the next request starts another front",
        role=_MEMBER.role,
        rank=_MEMBER.rank,
        host=socket.gethostname(),
    )
    found.__cause__ = error
    return found
