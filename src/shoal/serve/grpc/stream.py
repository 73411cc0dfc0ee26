"""One call with many requests, ModelStreamInfer: each is answered as if it came alone, in the order of their coming."""

import asyncio
import logging
import time
from collections import deque
from typing import Protocol

from shoal.serve.desk.connection import Patience
from shoal.serve.grpc.call import PREFIX_BYTES, Call, check_length
from shoal.serve.grpc.head import CallHead
from shoal.serve.grpc.messages import put_streamed, put_streamed_error
from shoal.serve.grpc.noting import note
from shoal.serve.tracing.observer import Observer
from shoal.serve.wire.refusal import RefusedError, our_mistake, wrong_field

_LOG = logging.getLogger(__name__)
# Requests of one stream that wait or run, as on a connection over HTTP; its client sends no more until one is answered.
_MOST_OPEN = 64
# Requests that are read in one turn of the loop: others want their turn too.
_MOST_AT_ONCE = 16


class Line(Protocol):
    """What a stream needs of its connection."""

    def begin_stream(self, stream: int) -> None:
        """Send the headers of the answer."""

    def send_streamed(self, stream: int, message: bytes, status: int) -> None:
        """Send a message of the answer, and count it under what would be its status over HTTP."""

    def hold_stream(self, stream: int, *, is_held: bool) -> None:
        """Let the client send no more for now, or go on."""

    def has_room(self, stream: int) -> bool:
        """Whether the client takes what is sent."""

    def end_stream(self, stream: int, refused: RefusedError | None) -> None:
        """Send what the call ended with; None for well. Nothing more is sent on it."""


class Intake(Protocol):
    """Who answers the requests; see `connection.Service`."""

    @property
    def observer(self) -> Observer | None:
        """Who hears of every answer; None where nobody does."""

    @property
    def is_draining(self) -> bool:
        """Whether nothing new is taken."""

    @property
    def most_body_bytes(self) -> int:
        """The longest message that is taken."""

    def admit_message(self, head: CallHead, num_bytes: int) -> None:
        """Raise RefusedError for a request whose message need not come to be refused; its length is known."""

    def take(self, call: Call, data: bytes, start: int) -> None:
        """Answer a request whose message begins at a byte, now or later; RefusedError is answered by the caller."""


class Stream:
    """The requests of one call, and their answers. Runs in the event loop alone.

    A bad request is answered with a message that says so, and the stream goes on. It ends when its client has sent all
    and has all answers; when its time is over; or when what it sends can be no request any more.
    """

    def __init__(self, line: Line, intake: Intake, number: int, head: CallHead) -> None:
        """Begin to answer."""
        self.head = head
        self._line = line
        self._intake = intake
        self._number = number
        self._buffer = bytearray()
        # Requests in the order that they came in; the last one's message may not be whole.
        self._open: deque[Call] = deque()
        self._arriving: Call | None = None
        # Of the arriving message, with its prefix.
        self._length = 0
        self._has_all = self._is_held = self._is_over = self._is_reading = self._is_due = False
        self._since_s = time.monotonic()
        line.begin_stream(number)

    @property
    def buffered_bytes(self) -> int:
        """Bytes held of messages that were not taken."""
        return len(self._buffer)

    def add(self, data: bytes, *, is_last: bool) -> None:
        """Take the next bytes of the requests."""
        # Only where something begins: a message that drips in byte by byte must not look alive for ever.
        if data and not self._buffer and self._arriving is None:
            self._since_s = time.monotonic()
        self._buffer += data
        self._has_all = self._has_all or is_last
        self.go_on()

    def go_on(self) -> None:
        """Read on, as far as there is room for more requests and their answers."""
        if self._is_reading or self._is_due:
            return
        self._is_reading = True
        try:
            num_read = 0
            while not self._is_over and self._is_free() and self._read_one():
                num_read += 1
                if num_read == _MOST_AT_ONCE:
                    self._is_due = True
                    asyncio.get_running_loop().call_soon(self._take_turn)
                    return
        except RefusedError as refused:
            self.refuse(refused)
        finally:
            self._is_reading = False
        if not self._is_over:
            self._settle()

    def send(self, call: Call, message: bytes) -> None:
        """For a request: it has its answer."""
        call.answered = put_streamed(message)
        self._flush()

    def send_refusal(self, call: Call, refused: RefusedError) -> None:
        """For a request: it has none."""
        call.answered = put_streamed_error(str(refused), call.request_id)
        self._flush()

    def refuse(self, refused: RefusedError) -> None:
        """End the call, and with it what still waits or runs."""
        if not self._is_over:
            self.abandon()
            self._line.end_stream(self._number, refused)

    def abandon(self) -> None:
        """Nobody wants the answers any more."""
        self._is_over = True
        self._buffer.clear()
        for call in self._open:
            call.abandon()
            # What is still computed for it goes nowhere.
            call.answered = call.answered or b""
        self._open.clear()

    def check(self, now_s: float, patience: Patience) -> None:
        """Called now and then: end a stream on which a message does not end, or nothing comes any more."""
        silent_s = now_s - self._since_s
        if self._arriving is not None or (self._buffer and not self._is_held):
            if silent_s > patience.request_s:
                self.refuse(_too_slow("no end of a message", patience.request_s))
        elif not self._open and self._intake.is_draining:
            self.refuse(_ending())
        elif not self._open and silent_s > patience.idle_s:
            self.refuse(_too_slow("no request", patience.idle_s))

    def _take_turn(self) -> None:
        self._is_due = False
        if not self._is_over:
            self.go_on()

    def _is_free(self) -> bool:
        # One whose message is on its way was let in before.
        return self._arriving is not None or (len(self._open) < _MOST_OPEN and self._line.has_room(self._number))

    def _read_one(self) -> bool:
        """Take the next request, if it is whole; RefusedError for what ends the stream."""
        if self._arriving is None:
            if len(self._buffer) < PREFIX_BYTES:
                return False
            self._begin()
        if len(self._buffer) < self._length:
            if self._arriving is not None and self._arriving.answered is not None:
                # Refused by its length: its bytes are counted, not kept.
                self._length -= len(self._buffer)
                self._buffer.clear()
            return False
        call, self._arriving = self._arriving, None
        data = bytes(memoryview(self._buffer)[: self._length])
        del self._buffer[: self._length]
        self._since_s = time.monotonic()
        if call is not None and call.answered is None:
            self._take(call, data)
        return True

    def _begin(self) -> None:
        num_bytes = int.from_bytes(self._buffer[1:PREFIX_BYTES], "big")
        # What is too large to be kept cannot be skipped for ever either.
        check_length(num_bytes, self._intake.most_body_bytes)
        self._length = PREFIX_BYTES + num_bytes
        call = self._arriving = Call(self, self._number, self.head, self._since_s)
        self._open.append(call)
        try:
            self._intake.admit_message(self.head, num_bytes)
        except RefusedError as refused:
            call.refuse(refused)

    def _take(self, call: Call, data: bytes) -> None:
        most_bytes = self._intake.most_body_bytes
        try:
            call.add(data, most_bytes=most_bytes)
            self._intake.take(call, *call.message(most_bytes=most_bytes))
        except RefusedError as refused:
            call.refuse(refused)
        except Exception:  # noqa: BLE001  # the boundary: a mistake of ours fails one request, not the stream
            _LOG.exception("cannot answer a request of a stream")
            call.refuse(our_mistake())

    def _flush(self) -> None:
        """Send the answers that are next in order."""
        while self._open and self._open[0].answered is not None and not self._is_over:
            call = self._open.popleft()
            # What it would say in headers cannot be said any more.
            note(self._intake.observer, call, "", len(call.answered or b""))
            self._line.send_streamed(self._number, call.answered or b"", call.answered_status)
            if not self._buffer and self._arriving is None:
                self._since_s = time.monotonic()
        if not self._is_over:
            self.go_on()

    def _settle(self) -> None:
        """After reading: have the client wait or go on, or end what is complete."""
        is_held = not self._is_free()
        if is_held != self._is_held:
            self._is_held = is_held
            self._line.hold_stream(self._number, is_held=is_held)
        if not self._has_all or is_held or any(call is not self._arriving for call in self._open):
            return
        if self._buffer or self._arriving is not None:
            self.refuse(_cut(len(self._buffer)))
        else:
            self._is_over = True
            self._line.end_stream(self._number, None)


def _too_slow(found: str, limit_s: float) -> RefusedError:
    refused = wrong_field(
        "stream",
        found=f"{found} for {limit_s:g} s",
        expected="requests one after the other, and the end of the stream after the last",
        next_step="close the stream when there is nothing to ask, and open another one later",
    )
    refused.status = 408
    return refused


def _ending() -> RefusedError:
    return RefusedError(
        503, "the server is stopping, and the stream has no open request", next_step="open it again", retry_after_s=1.0
    )


def _cut(num_bytes: int) -> RefusedError:
    return wrong_field(
        "message",
        found=f"the end of the stream after {num_bytes} bytes of a message",
        expected=f"{PREFIX_BYTES} bytes of prefix, and as many as they say",
    )
