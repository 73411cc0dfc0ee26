"""What goes to one client: frames as its windows allow, and what has to wait for them."""

from shoal.serve.grpc.frames import (
    DATA,
    DEFAULT_WINDOW,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    LARGEST_WINDOW,
    MAX_FRAME_SIZE,
    SMALLEST_MAX_FRAME,
    BrokenError,
    BrokenStreamError,
    Code,
    frame,
)


class Waiting:
    """Messages that a window holds back, and the trailers after them; None where more messages may come."""

    __slots__ = ("message", "more", "sent", "trailers")

    def __init__(self, message: bytes, trailers: bytes | None) -> None:
        self.message = message
        self.trailers = trailers
        self.sent = 0
        self.more: list[bytes] = []


class Outbox:
    """Cuts answers into frames and keeps the windows. No socket here: `take` gives what is to be written.

    A window may be below zero: a client can take back what it has granted. `sent_bytes` counts those of messages that
    had to wait, so that a client that grants nothing can be told from a slow one.
    """

    def __init__(self) -> None:
        self.sent_bytes = 0
        self._parts: list[bytes] = []
        self._window = DEFAULT_WINDOW
        self._first_window = DEFAULT_WINDOW
        self._max_frame_bytes = SMALLEST_MAX_FRAME
        # By stream, how far its window is from that of a stream that nothing was sent on or granted to.
        self._windows: dict[int, int] = {}
        self._waiting: dict[int, Waiting] = {}

    @property
    def num_waiting(self) -> int:
        """Answers that wait for a window."""
        return len(self._waiting)

    def is_sending(self, stream: int) -> bool:
        """Whether a part of an answer is still to go out on a stream."""
        return stream in self._waiting

    def take(self) -> bytes:
        """The bytes to write now, once."""
        parts, self._parts = self._parts, []
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def put(self, data: bytes) -> None:
        """Write the bytes of a whole frame as they are."""
        self._parts.append(data)

    def answer(self, stream: int, headers: bytes, message: bytes, trailers: bytes) -> None:
        """Send headers, a message and trailers, at once or as the windows open; the stream is then at its end."""
        self._parts.append(frame(HEADERS, END_HEADERS, stream, headers))
        length = len(message)
        granted = self._first_window + self._windows.get(stream, 0)
        if length <= self._window and length <= granted and length <= self._max_frame_bytes and not self._waiting:
            self._window -= length
            self._windows.pop(stream, None)
            self._parts.append(frame(DATA, 0, stream, message))
            self._parts.append(frame(HEADERS, END_HEADERS | END_STREAM, stream, trailers))
            return
        self._waiting[stream] = Waiting(message, trailers)
        self._send_waiting()

    def begin(self, stream: int, headers: bytes) -> None:
        """Send the headers of an answer that comes in several messages."""
        self._parts.append(frame(HEADERS, END_HEADERS, stream, headers))

    def send(self, stream: int, message: bytes) -> None:
        """Send one more message of an answer that has begun, at once or as the windows open."""
        waiting = self._waiting.get(stream)
        if waiting is not None:
            waiting.more.append(message)
            return
        self._waiting[stream] = Waiting(message, None)
        self._send_waiting()

    def finish(self, stream: int, trailers: bytes) -> None:
        """End an answer that has begun, when all its messages are sent."""
        waiting = self._waiting.get(stream)
        if waiting is not None:
            waiting.trailers = trailers
        else:
            self.end(stream, trailers)

    def end(self, stream: int, headers: bytes) -> None:
        """Send headers that are the whole answer."""
        self._windows.pop(stream, None)
        self._parts.append(frame(HEADERS, END_HEADERS | END_STREAM, stream, headers))

    def forget(self, stream: int) -> None:
        """Send nothing more on a stream."""
        self._windows.pop(stream, None)
        if self._waiting.pop(stream, None) is not None:
            self._send_waiting()

    def grant(self, stream: int, more: int) -> None:
        """Hear that so many more bytes may be sent: on one stream, or by 0 on all of them together.

        Raises:
            BrokenError, BrokenStreamError: the window is larger than any may be, or the grant is nothing.
        """
        if not stream:
            self._window += more
            if not more or self._window > LARGEST_WINDOW:
                code = Code.FLOW_CONTROL_ERROR if more else Code.PROTOCOL_ERROR
                raise BrokenError(code, f"WINDOW_UPDATE of {more} for a window of {self._window - more}")
        else:
            window = self._windows[stream] = self._windows.get(stream, 0) + more
            if not more or self._first_window + window > LARGEST_WINDOW:
                raise BrokenStreamError(stream, Code.FLOW_CONTROL_ERROR if more else Code.PROTOCOL_ERROR)
        if self._waiting:
            self._send_waiting()

    def configure(self, values: list[tuple[int, int]]) -> None:
        """Heed the client's settings, which were checked; BrokenError when they overflow a window."""
        for name, value in values:
            if name == MAX_FRAME_SIZE:
                self._max_frame_bytes = value
            elif name == INITIAL_WINDOW_SIZE:
                # Applies to open streams too: theirs are kept relative to it.
                self._first_window = value
                if value + max(self._windows.values(), default=0) > LARGEST_WINDOW:
                    raise BrokenError(Code.FLOW_CONTROL_ERROR, f"SETTINGS_INITIAL_WINDOW_SIZE of {value} overflows")
        if self._waiting:
            self._send_waiting()

    def _send_waiting(self) -> None:
        for stream, waiting in list(self._waiting.items()):
            self._send_part(stream, waiting)
            if self._window <= 0:
                return

    def _send_part(self, stream: int, waiting: Waiting) -> None:
        if not self._send_message(stream, waiting):
            return
        if waiting.more:
            # As one: a frame may hold the end of one message and the beginning of the next.
            waiting.message, waiting.sent, waiting.more = b"".join(waiting.more), 0, []
            if not self._send_message(stream, waiting):
                return
        del self._waiting[stream]
        if waiting.trailers is not None:
            self.end(stream, waiting.trailers)

    def _send_message(self, stream: int, waiting: Waiting) -> bool:
        """Send what the windows allow of a message; whether that was all."""
        length = len(waiting.message)
        while waiting.sent < length:
            granted = self._first_window + self._windows.get(stream, 0)
            size = min(length - waiting.sent, granted, self._window, self._max_frame_bytes)
            if size <= 0:
                return False
            part = waiting.message[waiting.sent : waiting.sent + size]
            self._parts.append(frame(DATA, 0, stream, part))
            waiting.sent += size
            self.sent_bytes += size
            self._window -= size
            self._windows[stream] = self._windows.get(stream, 0) - size
        return True
