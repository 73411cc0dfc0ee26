"""One gRPC client's connection: calls in, answers out as they come, and no client waits or is waited for for ever."""

import asyncio
import logging
import time
from http import HTTPStatus
from typing import Protocol, cast

from shoal.serve.desk.connection import Patience
from shoal.serve.grpc.call import PREFIX_BYTES, Call
from shoal.serve.grpc.frames import Code, goaway, settings
from shoal.serve.grpc.head import CallHead
from shoal.serve.grpc.noting import note
from shoal.serve.grpc.session import Session
from shoal.serve.grpc.status import ANSWER_HEADERS, OK_TRAILERS, not_grpc, refusal_headers, refusal_trailers
from shoal.serve.grpc.stream import Stream
from shoal.serve.tracing.observer import Observer, client_of
from shoal.serve.wire.refusal import RefusedError, our_mistake, wrong_field

_LOG = logging.getLogger(__name__)
# Channels are made to stay: a client that comes back after some minutes should not have to connect first.
PATIENCE = Patience(idle_s=600.0)
# For the client to read why the connection ends, before it does.
_LINGER_S = 1.0


class Service(Protocol):
    """Who answers calls."""

    @property
    def observer(self) -> Observer | None:
        """Who hears of every answer; None where nobody does."""

    @property
    def is_draining(self) -> bool:
        """Whether nothing new is taken."""

    @property
    def most_body_bytes(self) -> int:
        """The longest message that is taken."""

    def admit(self, head: CallHead) -> bool:
        """Whether a call brings many requests; RefusedError for one that needs no message to be refused."""

    def admit_message(self, head: CallHead, num_bytes: int) -> None:
        """Raise RefusedError for a call whose message need not come to be refused; its length is known."""

    def take(self, call: Call, data: bytes, start: int) -> None:
        """Answer a call whose message begins at a byte, now or later; RefusedError is answered by the caller."""

    def count(self, status: int) -> None:
        """Hear of an answer that was sent."""

    def opened(self, connection: "GrpcConnection") -> None:
        """Hear of a new connection."""

    def closed(self, connection: "GrpcConnection") -> None:
        """Hear of a connection that is gone."""


class GrpcConnection(asyncio.Protocol):
    """Runs in the event loop alone."""

    def __init__(self, service: Service, *, patience: Patience = PATIENCE) -> None:
        self._service = service
        self._patience = patience
        self._session = Session(self)
        # Calls whose message is not whole, and all that are not answered.
        self._arriving: dict[int, Call] = {}
        self._open: dict[int, Call] = {}
        # Calls with many requests.
        self._streams: dict[int, Stream] = {}
        self._timers: dict[int, asyncio.TimerHandle] = {}
        self._transport: asyncio.Transport | None = None
        self._since_s = self._moved_s = time.monotonic()
        self._moved_bytes = 0
        self._paused_since_s: float | None = None
        self._is_flush_due = False
        self._is_ending = False
        self._client = ""

    @property
    def buffered_bytes(self) -> int:
        """Bytes held of messages that are not complete."""
        streamed = sum(stream.buffered_bytes for stream in self._streams.values())
        return streamed + sum(call.num_bytes for call in self._arriving.values())

    @property
    def is_busy(self) -> bool:
        """Whether a call is not answered yet."""
        return self._transport is not None and self._session.num_streams > 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """For the event loop."""
        # uvloop's transports have the methods but not the class.
        self._transport = cast("asyncio.Transport", transport)
        if self._service.observer is not None:
            self._client = client_of(transport)
        self._service.opened(self)
        self._flush()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  # asyncio's signature
        """For the event loop."""
        self._transport = None
        for stream in [*self._open, *self._streams]:
            self.on_reset(stream)
        self._service.closed(self)

    def data_received(self, data: bytes) -> None:
        """For the event loop."""
        # Only where something begins: a frame that drips in byte by byte must not look alive for ever.
        if self._session.is_ready:
            self._since_s = time.monotonic()
        # One write for all that this read brings about.
        self._is_flush_due = True
        self._session.feed(data)
        if self._streams:
            self._go_on()
        self._flush()

    def eof_received(self) -> bool:
        """For the event loop: a client that has sent all may still read its answers."""
        self._is_ending = True
        return self.is_busy

    def pause_writing(self) -> None:
        """For the event loop: the client does not read, so it is not read from either."""
        self._paused_since_s = time.monotonic()
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        """For the event loop."""
        self._paused_since_s = None
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()
        self._go_on()

    def on_head(self, stream: int, head: CallHead) -> None:
        """For the session: a call begins."""
        if head.http_status is not None:
            self._service.count(head.http_status)
            stranger = Call(self, stream, head, self._since_s)
            stranger.answered_status = head.http_status
            more = note(self._service.observer, stranger, self._client, 0)
            self._session.end(stream, not_grpc(head.http_status) + more)
            return
        call = self._open[stream] = self._arriving[stream] = Call(self, stream, head, self._since_s)
        if head.timeout_s is not None:
            loop = asyncio.get_running_loop()
            self._timers[stream] = loop.call_later(head.timeout_s, self._expire, stream, head.timeout_s)
        try:
            if head.refused is not None:
                raise head.refused
            is_stream = self._service.admit(head)
        except RefusedError as refused:
            call.refuse(refused)
            return
        if is_stream:
            del self._open[stream], self._arriving[stream]
            self._streams[stream] = Stream(self, self._service, stream, head)

    def on_data(self, stream: int, data: bytes, *, is_last: bool) -> None:
        """For the session: a message, or a part of it."""
        call = self._arriving.get(stream)
        if call is None:
            if stream in self._streams:
                self._streams[stream].add(data, is_last=is_last)
            return
        most_bytes = self._service.most_body_bytes
        try:
            announced = call.add(data, most_bytes=most_bytes)
            if announced is not None:
                self._service.admit_message(call.head, announced)
            if is_last:
                del self._arriving[stream]
                self._service.take(call, *call.message(most_bytes=most_bytes))
        except RefusedError as refused:
            call.refuse(refused)
        except Exception:  # noqa: BLE001  # the boundary: a mistake of ours fails one call, not the process
            _LOG.exception("cannot answer a call of %s", call.head.path)
            call.refuse(our_mistake())

    def on_reset(self, stream: int) -> None:
        """For the session: nobody wants the answer of a call any more."""
        streamed = self._streams.pop(stream, None)
        call = self._forget(stream)
        if streamed is not None:
            streamed.abandon()
        if call is not None:
            call.abandon()

    def send(self, call: Call, message: bytes) -> None:
        """Send the message that answers a call."""
        prefix = len(message).to_bytes(5, "big")
        if self._forget(call.stream) is call:
            headers = ANSWER_HEADERS + note(self._service.observer, call, self._client, len(message))
            self._session.answer(call.stream, headers, prefix + message, OK_TRAILERS)
            self._service.count(call.answered_status)
            self._flush_soon()

    def send_refusal(self, call: Call, refused: RefusedError) -> None:
        """Send why a call is not answered."""
        if self._forget(call.stream) is call:
            more = note(self._service.observer, call, self._client, 0)
            self._session.end(call.stream, refusal_headers(refused) + more)
            self._service.count(call.answered_status)
            self._flush_soon()

    def begin_stream(self, stream: int) -> None:
        """Send the headers of an answer in several messages."""
        self._session.outbox.begin(stream, ANSWER_HEADERS)
        self._flush_soon()

    def send_streamed(self, stream: int, message: bytes, status: int) -> None:
        """Send one of the messages that answer a stream, and count it."""
        self._session.send(stream, len(message).to_bytes(PREFIX_BYTES, "big") + message)
        self._service.count(status)
        self._flush_soon()

    def hold_stream(self, stream: int, *, is_held: bool) -> None:
        """Let a stream's client send no more for now, or go on."""
        self._session.hold(stream, is_held=is_held)
        self._flush_soon()

    def has_room(self, stream: int) -> bool:
        """Whether the client takes what is sent on a stream."""
        return self._paused_since_s is None and not self._session.outbox.is_sending(stream)

    def end_stream(self, stream: int, refused: RefusedError | None) -> None:
        """Send what a stream ended with."""
        if self._streams.pop(stream, None) is None:
            return
        self._forget(stream)
        self._session.finish(stream, OK_TRAILERS if refused is None else refusal_trailers(refused))
        if refused is not None:
            self._service.count(refused.status)
        self._flush_soon()

    def check(self, now_s: float) -> None:
        """Called now and then: end what takes too long."""
        if self._transport is None:
            return
        self._session.refill()
        if self._service.is_draining:
            self._session.leave()
        if self._is_stuck(now_s):
            self._transport.abort()
            return
        patience = self._patience
        for call in list(self._arriving.values()):
            if now_s - call.started_s > patience.request_s:
                call.refuse(_too_slow(patience.request_s))
        for stream in list(self._streams.values()):
            stream.check(now_s, patience)
        silent_s = now_s - self._since_s
        if not self._session.is_ready and silent_s > patience.request_s:
            self._session.fail(Code.NO_ERROR, f"no whole frame within {patience.request_s:g} s")
        elif not self.is_busy and silent_s > patience.idle_s:
            self.close()
        self._flush()

    def close(self) -> None:
        """Close at once what has no open call."""
        if self._transport is not None and not self.is_busy:
            self._session.leave()
            self._flush()
            self._transport.close()

    def _is_stuck(self, now_s: float) -> bool:
        """Whether the client has not read for too long, or granted nothing to what waits for it."""
        outbox = self._session.outbox
        if not outbox.num_waiting or outbox.sent_bytes != self._moved_bytes:
            self._moved_s, self._moved_bytes = now_s, outbox.sent_bytes
        since_s = min(self._moved_s, now_s if self._paused_since_s is None else self._paused_since_s)
        return now_s - since_s > self._patience.reader_s

    def _expire(self, stream: int, timeout_s: float) -> None:
        call = self._open.get(stream) or self._streams.get(stream)
        if call is not None:
            call.refuse(_too_late(timeout_s))
            call.abandon()

    def _go_on(self) -> None:
        """Let streams read on that waited for their client to take what they send."""
        for stream in list(self._streams.values()):
            stream.go_on()

    def _forget(self, stream: int) -> Call | None:
        self._arriving.pop(stream, None)
        if self._timers and (timer := self._timers.pop(stream, None)) is not None:
            timer.cancel()
        return self._open.pop(stream, None)

    def _flush_soon(self) -> None:
        """Write at the end of this turn of the loop: the answers of a batch come one after the other."""
        if not self._is_flush_due:
            self._is_flush_due = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self._is_flush_due = False
        data = self._session.take()
        if self._transport is None:
            return
        if data:
            self._transport.write(data)
        if self._session.is_over and not self._is_ending:
            self._is_ending = True
            # What is still coming is read and dropped: closing at once would reset what was just written.
            asyncio.get_running_loop().call_later(_LINGER_S, self._transport.close)
        elif self._is_ending and not self.is_busy and not self._session.is_over:
            self._transport.close()


class TurnedAway(asyncio.Protocol):
    """A connection for which there is no room: its client is told so, and may try another server."""

    def __init__(self, most_connections: int) -> None:
        self._message = f"{most_connections} connections are open, and no more may be"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """For the event loop."""
        open_transport = cast("asyncio.Transport", transport)
        open_transport.write(settings({}) + goaway(0, Code.ENHANCE_YOUR_CALM, self._message))
        open_transport.close()


def _too_slow(limit_s: float) -> RefusedError:
    refused = wrong_field("message", found=f"no end after {limit_s:g} s", expected="a whole message within that time")
    refused.status = HTTPStatus.REQUEST_TIMEOUT
    return refused


def _too_late(timeout_s: float) -> RefusedError:
    return RefusedError(
        504,
        f"there was no answer within the call's timeout of {timeout_s:g} s",
        field="grpc-timeout",
        found=f"{timeout_s:g} s",
        expected="more than the wait and the model take",
        next_step="call with a longer timeout, or serve with more replicas",
    )
