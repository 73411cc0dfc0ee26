"""What has come from the supervisor and was not acted on yet."""

from threading import Event
from typing import Protocol

from shoal.runtime import Message
from shoal.train.worker.orders import Meet


class Line(Protocol):
    """A worker's side of the runtime: what it uses of `Context`."""

    @property
    def stopping(self) -> Event:
        """Set once this process was asked to end."""

    def receive(self, timeout_s: float | None = None) -> Message:
        """The next message, or None when this process was asked to end."""

    def receive_nowait(self) -> Message:
        """The next message that is here, else None."""


class Mail:
    """The newest call to meet. One thread, as the groups that ask `is_interrupted` are used by one."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._newest: Meet | None = None
        self._is_urgent = False
        self._generation = -1

    @property
    def has_call(self) -> bool:
        """Whether a call waits to be taken."""
        self._look()
        return self._newest is not None

    @property
    def is_stopping(self) -> bool:
        """Whether this process was asked to end."""
        return self._line.stopping.is_set()

    def is_interrupted(self) -> bool:
        """Whether it is of no use to wait for the present generation any longer."""
        self._look()
        return self._is_urgent or self.is_stopping

    def take(self) -> Meet | None:
        """Wait for the newest call that is no older than one taken before; None when this process was asked to end."""
        self._look()
        while self._newest is None and (message := self._line.receive()) is not None:
            self._read(message)
            self._look()
        if self._newest is None or self.is_stopping:
            return None
        call, self._newest, self._is_urgent = self._newest, None, False
        self._generation = call.generation
        return call

    def begin_with(self, call: Meet) -> None:
        """Take a call that has come another way."""
        self._generation = max(self._generation, call.generation)

    def _look(self) -> None:
        while (message := self._line.receive_nowait()) is not None:
            self._read(message)

    def _read(self, message: Message) -> None:
        call = Meet.from_message(message)
        if call.generation > self._generation and (self._newest is None or call.generation > self._newest.generation):
            self._newest = call
            # Urgent stays: the generation that we are in has lost somebody, whatever was planned on top of that.
            self._is_urgent = self._is_urgent or not call.planned
