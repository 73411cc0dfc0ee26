"""HTTP/2 with one client, as a server of calls: frames in, calls out, answers back. No socket and no clock here.

Whatever comes, `feed` does not raise: a broken stream is reset, a broken connection is told why by GOAWAY and is over.
"""

from typing import Protocol

from shoal.serve.grpc import frames
from shoal.serve.grpc.blocks import BlockReader
from shoal.serve.grpc.frames import BrokenError, BrokenStreamError, Code, FrameReader
from shoal.serve.grpc.head import MOST_HEADER_BYTES, CallHead, HeadReader
from shoal.serve.grpc.outbox import Outbox

MOST_STREAMS = 256
"""Calls that one client may have open at once; the rest wait at the client."""
# What may be under way to us: whole small messages without a word from us, large ones in a few steps.
STREAM_WINDOW = 1 << 20
CONNECTION_WINDOW = 16 << 20
MAX_FRAME_BYTES = 128 << 10
# Frames that make work and bring none, such as resets of what was just begun (CVE-2023-44487): each takes one from the
# allowance, answers and time give back. No client that we know of comes near the first number.
_ALLOWANCE = 1000
_ALLOWANCE_PER_REFILL = 250
# Streams that we ended before their client did: what it had sent by then still comes.
_MOST_CUT = 1024


class Listener(Protocol):
    """Who hears of calls."""

    def on_head(self, stream: int, head: CallHead) -> None:
        """A call begins."""

    def on_data(self, stream: int, data: bytes, *, is_last: bool) -> None:
        """The next bytes of a call's messages; with `is_last` there will be no more."""

    def on_reset(self, stream: int) -> None:
        """A call is off: its client does not want the answer, or broke the rules."""


class _Stream:
    """A call that is not answered: whether its client has sent all, and how much it may still send unasked.

    `is_held` says that it may send no more than that for now.
    """

    __slots__ = ("is_ended", "is_held", "window")

    def __init__(self) -> None:
        self.is_ended = False
        self.is_held = False
        self.window = STREAM_WINDOW


class Session:
    """One connection's streams. `take` gives the bytes to write after each call of another method.

    After `is_over` nothing is read any more, and the connection is to be closed when its bytes are written.
    """

    def __init__(self, listener: Listener) -> None:
        self.is_over = False
        self.outbox = Outbox()
        self._listener = listener
        self._reader = FrameReader(max_frame_bytes=MAX_FRAME_BYTES)
        self._heads = HeadReader()
        self._streams: dict[int, _Stream] = {}
        self._cut: dict[int, None] = {}
        self._highest = 0
        self._window = CONNECTION_WINDOW
        self._allowance = _ALLOWANCE
        self._has_settings = False
        self._is_leaving = False
        self._blocks = BlockReader()
        self._handlers = {
            frames.HEADERS: self._on_headers,
            frames.PRIORITY: self._on_priority,
            frames.RST_STREAM: self._on_reset,
            frames.SETTINGS: self._on_settings,
            frames.PUSH_PROMISE: self._on_push,
            frames.PING: self._on_ping,
            frames.GOAWAY: self._on_goaway,
            frames.WINDOW_UPDATE: self._on_window,
            frames.CONTINUATION: self._on_continuation,
        }
        ours = {
            frames.MAX_CONCURRENT_STREAMS: MOST_STREAMS,
            frames.INITIAL_WINDOW_SIZE: STREAM_WINDOW,
            frames.MAX_FRAME_SIZE: MAX_FRAME_BYTES,
            frames.MAX_HEADER_LIST_SIZE: MOST_HEADER_BYTES,
        }
        self.outbox.put(frames.settings(ours))
        self.outbox.put(frames.window_update(0, CONNECTION_WINDOW - frames.DEFAULT_WINDOW))

    @property
    def is_ready(self) -> bool:
        """Whether the client has introduced itself, and no frame is half here."""
        return self._has_settings and not self._reader.is_inside and not self._blocks.stream

    @property
    def num_streams(self) -> int:
        """Calls that are not answered, or whose answer is still going out."""
        return len(self._streams) + self.outbox.num_waiting

    def feed(self, data: bytes) -> None:
        """Take the next bytes, however they were cut, and tell the listener what they bring."""
        if self.is_over:
            return
        try:
            for kind, flags, stream, payload in self._reader.feed(data):
                try:
                    self._on_frame(kind, flags, stream, payload)
                except BrokenStreamError as error:
                    self._end_broken(error)
        except BrokenError as error:
            self.fail(error.code, error.message)

    def take(self) -> bytes:
        """The bytes to write now."""
        return self.outbox.take()

    def answer(self, stream: int, headers: bytes, message: bytes, trailers: bytes) -> bool:
        """Answer a call whose client has sent all; False when it is off, and nothing is sent."""
        if self._streams.pop(stream, None) is None:
            return False
        self._allowance = min(self._allowance + 1, _ALLOWANCE)
        self.outbox.answer(stream, headers, message, trailers)
        return True

    def end(self, stream: int, headers: bytes) -> bool:
        """Answer a call by headers alone, and read no more of it; False when it is off, and nothing is sent."""
        found = self._streams.pop(stream, None)
        if found is None:
            return False
        self.outbox.end(stream, headers)
        if not found.is_ended:
            # Section 8.1: the answer is complete, and the rest of the request is not wanted.
            self._cut_off(stream, Code.NO_ERROR)
        return True

    def send(self, stream: int, message: bytes) -> None:
        """Send a message of an answer that the outbox has begun; nothing when the call is off."""
        if stream in self._streams:
            self._allowance = min(self._allowance + 1, _ALLOWANCE)
            self.outbox.send(stream, message)

    def finish(self, stream: int, trailers: bytes) -> None:
        """End an answer that has begun: when its messages are sent, or at once where the client has not sent all."""
        found = self._streams.pop(stream, None)
        if found is None:
            return
        if found.is_ended:
            self.outbox.finish(stream, trailers)
            return
        # What the windows still hold back is lost: the call ends because its client broke off or went too far.
        self.outbox.forget(stream)
        self.outbox.end(stream, trailers)
        self._cut_off(stream, Code.NO_ERROR)

    def hold(self, stream: int, *, is_held: bool) -> None:
        """Grant a call's client no more room to send, or grant it again."""
        found = self._streams.get(stream)
        if found is not None:
            found.is_held = is_held
            self._grant(stream, found)

    def leave(self) -> None:
        """Tell the client to open no more streams; those that are open go on."""
        if not self._is_leaving and not self.is_over:
            self._is_leaving = True
            self.outbox.put(frames.goaway(self._highest, Code.NO_ERROR))

    def fail(self, code: Code, message: str) -> None:
        """End the connection, and every call on it."""
        if self.is_over:
            return
        self.is_over = True
        self.outbox.put(frames.goaway(self._highest, code, message))
        for stream in list(self._streams):
            self._drop(stream)

    def refill(self) -> None:
        """Called now and then: time makes up for frames that brought nothing."""
        self._allowance = min(self._allowance + _ALLOWANCE_PER_REFILL, _ALLOWANCE)

    def _on_frame(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == frames.DATA and not self._blocks.stream and self._has_settings:
            self._on_data(flags, stream, payload)
            return
        if self._blocks.stream and (kind != frames.CONTINUATION or stream != self._blocks.stream):
            raise BrokenError(Code.PROTOCOL_ERROR, "another frame within a header block")
        if not self._has_settings and kind != frames.SETTINGS:
            raise BrokenError(Code.PROTOCOL_ERROR, "the first frame is not SETTINGS")
        handler = self._handlers.get(kind)
        # A kind that nobody knows is to be ignored, but not for ever.
        if handler is None:
            self._spend()
        else:
            handler(flags, stream, payload)

    def _on_data(self, flags: int, number: int, payload: bytes) -> None:
        stream = self._streams.get(number)
        if stream is None or stream.is_ended:
            self._check_stray(number, "DATA")
        # Padding and what is not wanted count too, and are granted again, but on streams with too many open requests.
        # What may be kept is bounded by the length that each message announces.
        size = len(payload)
        self._window -= size
        if self._window < 0:
            raise BrokenError(Code.FLOW_CONTROL_ERROR, "more DATA than the connection's window")
        if self._window < CONNECTION_WINDOW // 2:
            self.outbox.put(frames.window_update(0, CONNECTION_WINDOW - self._window))
            self._window = CONNECTION_WINDOW
        if stream is None or stream.is_ended:
            return
        stream.window -= size
        if stream.window < 0:
            raise BrokenStreamError(number, Code.FLOW_CONTROL_ERROR)
        is_last = stream.is_ended = bool(flags & frames.END_STREAM)
        if not size and not is_last:
            self._spend()
        self._grant(number, stream)
        self._listener.on_data(number, frames.unpad(flags, payload), is_last=is_last)

    def _grant(self, number: int, stream: _Stream) -> None:
        """Let a call's client send more, when it has used up half of what it may."""
        if stream.window < STREAM_WINDOW // 2 and not (stream.is_held or stream.is_ended):
            self.outbox.put(frames.window_update(number, STREAM_WINDOW - stream.window))
            stream.window = STREAM_WINDOW

    def _on_headers(self, flags: int, stream: int, payload: bytes) -> None:
        whole = self._blocks.begin(flags, stream, payload)
        if whole is not None:
            self._on_block(*whole)

    def _on_continuation(self, flags: int, stream: int, payload: bytes) -> None:
        whole = self._blocks.go_on(flags, stream, payload)
        if whole is not None:
            self._on_block(*whole)

    def _on_block(self, number: int, flags: int, block: bytes) -> None:
        # Read it even where it is not wanted: later blocks build on it.
        head = self._heads.read(block)
        is_last = bool(flags & frames.END_STREAM)
        if number <= self._highest:
            self._on_trailers(number, is_last=is_last)
            return
        self._highest = number
        if self._is_leaving:
            return
        if head is None:
            raise BrokenStreamError(number, Code.PROTOCOL_ERROR)
        if self.num_streams >= MOST_STREAMS:
            raise BrokenStreamError(number, Code.REFUSED_STREAM)
        stream = self._streams[number] = _Stream()
        stream.is_ended = is_last
        self._listener.on_head(number, head)
        if is_last:
            self._listener.on_data(number, b"", is_last=True)

    def _on_trailers(self, number: int, *, is_last: bool) -> None:
        stream = self._streams.get(number)
        if stream is None or stream.is_ended:
            self._check_stray(number, "HEADERS")
        elif not is_last:
            raise BrokenStreamError(number, Code.PROTOCOL_ERROR)
        else:
            stream.is_ended = True
            self._listener.on_data(number, b"", is_last=True)

    def _on_priority(self, _: int, stream: int, payload: bytes) -> None:
        if not stream:
            raise BrokenError(Code.PROTOCOL_ERROR, "PRIORITY on stream 0")
        if len(payload) != 5:  # a stream and a weight
            raise BrokenStreamError(stream, Code.FRAME_SIZE_ERROR)
        self._spend()

    def _on_reset(self, _: int, stream: int, payload: bytes) -> None:
        frames.read_number(payload, "RST_STREAM")
        self._check_begun(stream, "RST_STREAM")
        self._spend()
        self._cut.pop(stream, None)
        self._drop(stream)

    def _on_settings(self, flags: int, stream: int, payload: bytes) -> None:
        if stream:
            raise BrokenError(Code.PROTOCOL_ERROR, f"SETTINGS on stream {stream}")
        if flags & frames.ACK:
            if payload:
                raise BrokenError(Code.FRAME_SIZE_ERROR, "an acknowledgement with settings")
            return
        self.outbox.configure(frames.read_settings(payload))
        self._has_settings = True
        self._spend()
        self.outbox.put(frames.frame(frames.SETTINGS, frames.ACK, 0))

    def _on_push(self, _: int, stream: int, __: bytes) -> None:
        raise BrokenError(Code.PROTOCOL_ERROR, f"PUSH_PROMISE from a client, on stream {stream}")

    def _on_ping(self, flags: int, stream: int, payload: bytes) -> None:
        if stream:
            raise BrokenError(Code.PROTOCOL_ERROR, f"PING on stream {stream}")
        if len(payload) != 8:  # bytes of a ping
            raise BrokenError(Code.FRAME_SIZE_ERROR, f"PING of {len(payload)} bytes")
        if not flags & frames.ACK:
            self._spend()
            self.outbox.put(frames.frame(frames.PING, frames.ACK, 0, payload))

    def _on_goaway(self, _: int, stream: int, payload: bytes) -> None:
        if stream:
            raise BrokenError(Code.PROTOCOL_ERROR, f"GOAWAY on stream {stream}")
        if len(payload) < 8:  # a stream and a code
            raise BrokenError(Code.FRAME_SIZE_ERROR, f"GOAWAY of {len(payload)} bytes")
        self._spend()

    def _on_window(self, _: int, stream: int, payload: bytes) -> None:
        more = frames.read_number(payload, "WINDOW_UPDATE") & frames.LARGEST_WINDOW
        if not stream:
            self.outbox.grant(0, more)
            return
        self._check_begun(stream, "WINDOW_UPDATE")
        if stream in self._streams or self.outbox.is_sending(stream):
            self.outbox.grant(stream, more)
        else:
            self._spend()

    def _check_begun(self, stream: int, kind: str) -> None:
        if not stream % 2 or stream > self._highest:
            raise BrokenError(Code.PROTOCOL_ERROR, f"{kind} on stream {stream}, which has not begun")

    def _check_stray(self, stream: int, kind: str) -> None:
        """Let pass what comes late for a stream that we ended; anything else on a stream that is over is an error."""
        self._check_begun(stream, kind)
        if stream not in self._cut and not self._is_leaving:
            raise BrokenError(Code.STREAM_CLOSED, f"{kind} on stream {stream}, which is over")

    def _spend(self) -> None:
        self._allowance -= 1
        if self._allowance < 0:
            raise BrokenError(Code.ENHANCE_YOUR_CALM, "too many frames that bring nothing")

    def _end_broken(self, error: BrokenStreamError) -> None:
        self._drop(error.stream)
        self._cut_off(error.stream, error.code)
        self._spend()

    def _cut_off(self, stream: int, code: Code) -> None:
        if len(self._cut) >= _MOST_CUT:
            del self._cut[next(iter(self._cut))]
        self._cut[stream] = None
        self.outbox.put(frames.rst_stream(stream, code))

    def _drop(self, number: int) -> None:
        self.outbox.forget(number)
        if self._streams.pop(number, None) is not None:
            self._listener.on_reset(number)
