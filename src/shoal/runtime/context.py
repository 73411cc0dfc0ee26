"""What a member knows and can do: who it is, and the line to its supervisor."""

import os
import select
import signal
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from time import monotonic

from shoal.runtime.frames import Channel, Message, decode_message, encode_message


class Context:
    """The first argument of every entry.

    Any thread may call any method. `stopping` is set at once when the supervisor asks the member to end (SIGTERM), or a
    batch system announces that it will (SIGUSR1), also while the main thread is inside a long call of a C library; an
    entry that does not return is killed after the supervisor's grace.
    """

    def __init__(
        self, *, role: str, rank: int, world_size: int, channel: Channel, signals: int, orphaned: Callable[[], None]
    ) -> None:
        """Listen in a thread, to the supervisor and to signals.

        Args:
            role: what this member plays.
            rank: its number among those of its role, from 0.
            world_size: how many members its role had when it was started.
            channel: the line to the supervisor.
            signals: the read end of the pipe that signal numbers are written to (`signal.set_wakeup_fd`).
            orphaned: called when the supervisor is gone.
        """
        self.role = role
        self.rank = rank
        self.world_size = world_size
        self.stopping = threading.Event()
        self._channel = channel
        self._signals = signals
        self._orphaned = orphaned
        self._messages: deque[tuple[int, bytes]] = deque()
        self._arrived = threading.Condition()
        self._wake: tuple[int, int] | None = None
        self._listener = threading.Thread(target=self._listen, name="shoal-context", daemon=True)
        self._listener.start()

    def report(self, message: Message) -> None:
        """Hand a JSON-like message or bytes to the supervisor; returns when the operating system has it.

        Waits while the supervisor has too much unread. Reports arrive in order, and all before `Exited`.

        Raises:
            InputError: the message cannot travel.
        """
        self._channel.write(*encode_message(message))

    def receive(self, timeout_s: float | None = None) -> Message:
        """The next message of the supervisor; None when `timeout_s` passed or the member should stop."""
        deadline = None if timeout_s is None else monotonic() + timeout_s
        with self._arrived:
            while not self._messages:
                left_s = None if deadline is None else deadline - monotonic()
                if self.stopping.is_set() or (left_s is not None and left_s <= 0):
                    return None
                self._arrived.wait(left_s)
            kind, body = self._messages.popleft()
        return decode_message(kind, body)

    def receive_nowait(self) -> Message:
        """The next message that is already here, else None."""
        with self._arrived:
            if not self._messages:
                self._clear_wake()
                return None
            kind, body = self._messages.popleft()
        return decode_message(kind, body)

    def fileno(self) -> int:
        """A file descriptor for an event loop: readable once a message came or the member should stop.

        It stays readable until `receive_nowait` returns None; then look at `stopping`.
        """
        with self._arrived:
            if self._wake is None:
                self._wake = os.pipe()
                os.set_blocking(self._wake[0], False)
                os.set_blocking(self._wake[1], False)
                if self._messages or self.stopping.is_set():
                    self._set_wake()
            return self._wake[0]

    def _listen(self) -> None:
        poll = select.poll()
        poll.register(self._channel.descriptor, select.POLLIN)
        poll.register(self._signals, select.POLLIN)
        while True:
            for descriptor, _ in poll.poll():
                if descriptor == self._signals:
                    # One byte for each signal that Python handles, whichever it is.
                    if {signal.SIGTERM, signal.SIGUSR1}.intersection(os.read(self._signals, 4096)):
                        self.stopping.set()
                        self._announce()
                elif (frame := self._channel.read()) is not None:
                    self._announce(frame)
                else:
                    self._orphaned()
                    return

    def _announce(self, frame: tuple[int, bytes] | None = None) -> None:
        with self._arrived:
            if frame is not None:
                self._messages.append(frame)
            self._set_wake()
            self._arrived.notify_all()

    def _set_wake(self) -> None:
        if self._wake is not None:
            # Full of earlier bytes: readable all the same.
            with suppress(BlockingIOError):
                os.write(self._wake[1], b"\0")

    def _clear_wake(self) -> None:
        if self._wake is not None:
            with suppress(BlockingIOError):
                while os.read(self._wake[0], 4096):
                    pass
