"""One client's connection: requests in, answers out in the order of the requests, and no client waits for ever."""

import asyncio
import logging
import time
from collections import deque
from dataclasses import dataclass
from typing import Protocol, cast

from shoal.serve.records.passage import Ran
from shoal.serve.tracing.observer import Observer, client_of
from shoal.serve.wire.http import (
    CONTINUE,
    HEAD_END,
    Event,
    Head,
    KnownHeads,
    RequestReader,
    add_header,
    finish,
    refusal,
    response,
)
from shoal.serve.wire.refusal import RefusedError, our_mistake, too_slow
from shoal.serve.wire.trace_context import PARENT

_LOG = logging.getLogger(__name__)
# Requests that one client may have open at once; more stay in the kernel's buffers until some are answered.
_MOST_PIPELINED = 64
# Heads and bodies that are worked on in one turn of the loop: one read may bring thousands of short requests.
_MOST_AT_ONCE = 32
# After a last answer to a client that is still sending: time for it to read, not to send all it has.
_LINGER_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long a connection may take.

    Attributes:
        request_s: from a request's first byte to its last.
        idle_s: between requests.
        reader_s: for the client to read what was sent.
    """

    request_s: float = 30.0
    idle_s: float = 75.0
    reader_s: float = 30.0


class Exchange:
    """One request and, in time, its answer; `ran` says how it was run where an observer is to know."""

    __slots__ = ("_connection", "answered", "answered_status", "closes", "head", "num_bytes", "ran", "started_s")

    def __init__(self, connection: "Connection", head: Head, started_s: float) -> None:
        self._connection = connection
        self.head = head
        self.started_s = started_s
        self.answered: bytes | None = None
        self.answered_status = 0
        self.closes = not head.keeps_alive
        self.num_bytes = 0
        self.ran: Ran | None = None

    def answer(self, status: int, response: bytes) -> None:
        """Send the answer when all earlier requests of this connection have theirs."""
        self.answered_status = status
        self.answered = response
        self._connection.flush()

    def give(self, body: bytes, json_bytes: int | None) -> None:
        """Send the answer to a request for a prediction, `json_bytes` of which are JSON when raw tensors follow."""
        self.answer(200, response(200, body, json_bytes=json_bytes))

    def refuse(self, refused: RefusedError) -> None:
        """Send the answer to a request that is refused."""
        self.closes = self.closes or refused.closes
        self.answer(refused.status, refusal(refused))


class Intake(Protocol):
    """Who answers requests.

    Attributes:
        known_heads: of all its connections.
        observer: who hears of every answer; None where nobody does.
    """

    known_heads: KnownHeads
    observer: Observer | None

    def admit(self, head: Head) -> None:
        """Raise RefusedError for a request that needs no body to be refused."""

    def take(self, exchange: Exchange, body: bytes) -> None:
        """Answer a whole request, now or later; RefusedError is answered by the caller."""

    def count(self, status: int) -> None:
        """Hear of an answer that was sent."""

    def opened(self, connection: "Connection") -> None:
        """Hear of a new connection."""

    def closed(self, connection: "Connection") -> None:
        """Hear of a connection that is gone."""


class Connection(asyncio.Protocol):
    """Runs in the event loop alone."""

    def __init__(self, intake: Intake, *, most_body_bytes: int, patience: Patience) -> None:
        self._intake = intake
        self._patience = patience
        self._reader = RequestReader(most_body_bytes=most_body_bytes, known=intake.known_heads)
        self._open: deque[Exchange] = deque()
        # The exchange whose body is still to come; None when it was answered from its head.
        self._current: Exchange | None = None
        self._transport: asyncio.Transport | None = None
        self._since_s = time.monotonic()
        self._paused_since_s: float | None = None
        self._is_closing = False
        self._is_read_paused = False
        # What was read and is not worked on yet.
        self._behind: deque[Event] = deque()
        self._is_catching_up = False
        self._client = ""

    @property
    def buffered_bytes(self) -> int:
        """Bytes held of a body that is not complete."""
        return self._reader.buffered_bytes

    @property
    def is_busy(self) -> bool:
        """Whether a request is not answered yet."""
        return bool(self._open)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """For the event loop."""
        # uvloop's transports have the methods but not the class.
        self._transport = cast("asyncio.Transport", transport)
        if self._intake.observer is not None:
            self._client = client_of(transport)
        self._intake.opened(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  # asyncio's signature
        """For the event loop. What runs for this client is computed all the same and then dropped."""
        # Requests that are under way hold their exchange, and find here that there is nowhere to send to.
        self._transport = None
        self._open.clear()
        self._intake.closed(self)

    def data_received(self, data: bytes) -> None:
        """For the event loop."""
        if self._is_closing:
            return
        # Only where a request begins: one that drips in byte by byte must not look alive for ever.
        if not self._reader.is_inside:
            self._since_s = time.monotonic()
        events = self._reader.feed(data)
        if len(events) > _MOST_AT_ONCE or self._behind:
            self._behind.extend(events)
            self._catch_up()
            return
        for event in events:
            self._on_event(event)
        if len(self._open) > _MOST_PIPELINED:
            self._steer_reading()

    def eof_received(self) -> bool:
        """For the event loop: a client that has sent all may still read its answers."""
        if not self._open or self._reader.is_inside:
            return False
        self._open[-1].closes = True
        return True

    def pause_writing(self) -> None:
        """For the event loop: the client does not read."""
        self._paused_since_s = time.monotonic()
        self._steer_reading()

    def resume_writing(self) -> None:
        """For the event loop."""
        self._paused_since_s = None
        self._catch_up()

    def flush(self) -> None:
        """Send the answers that are next in order."""
        ready: list[bytes] = []
        while self._open and self._open[0].answered is not None and not self._is_closing:
            exchange = self._open.popleft()
            self._intake.count(exchange.answered_status)
            answer, head, closes = exchange.answered or b"", exchange.head, exchange.closes
            if self._intake.observer is not None:
                answer = self._note(self._intake.observer, exchange, answer)
            if closes or not head.fits_any:
                answer = finish(answer, closes=closes, is_old=head.is_old, is_head_only=head.method == "HEAD")
                self._is_closing = closes
            ready.append(answer)
        if self._transport is None or not ready:
            return
        self._transport.write(ready[0] if len(ready) == 1 else b"".join(ready))
        if self._is_closing:
            self._close_gently()
        elif self._is_read_paused:
            self._steer_reading()

    def check(self, now_s: float) -> None:
        """Called now and then: end what takes too long."""
        if self._transport is None:
            return
        if self._paused_since_s is not None and now_s - self._paused_since_s > self._patience.reader_s:
            self._transport.abort()
        elif self._is_closing:
            return
        elif self._reader.is_inside and now_s - self._since_s > self._patience.request_s:
            self._on_unreadable(too_slow(self._patience.request_s))
        elif not self._reader.is_inside and not self._open and now_s - self._since_s > self._patience.idle_s:
            self._transport.close()

    def close(self) -> None:
        """Close at once what has no open request."""
        if self._transport is not None and not self._open:
            self._transport.close()

    def _note(self, observer: Observer, exchange: Exchange, answer: bytes) -> bytes:
        """Have the observer hear of an answer; returns it with what that has to say in its head."""
        head = exchange.head
        back = observer.note(
            protocol="http",
            method=head.method,
            path=head.path,
            status=exchange.answered_status,
            client=self._client,
            headers=head.headers,
            num_bytes_in=exchange.num_bytes,
            num_bytes_out=len(answer) - answer.find(HEAD_END) - len(HEAD_END),
            started_s=exchange.started_s,
            ran=exchange.ran,
        )
        return add_header(answer, PARENT, back) if back else answer

    def _on_event(self, event: Event) -> None:
        kind = type(event)
        if kind is bytes:
            self._on_body(event)  # type: ignore[arg-type]  # isinstance would narrow, and costs on every request
        elif kind is Head:
            self._on_head(event)  # type: ignore[arg-type]  # as above
        else:
            self._on_unreadable(event)  # type: ignore[arg-type]  # as above

    def _catch_up(self) -> None:
        """Work on some of what was read, and leave the rest to later turns of the loop: other clients have theirs."""
        for _ in range(_MOST_AT_ONCE):
            if not self._behind or self._must_hold:
                break
            self._on_event(self._behind.popleft())
        if self._is_closing or self._transport is None:
            self._behind.clear()
        self._steer_reading()

    def _go_on(self) -> None:
        self._is_catching_up = False
        self._catch_up()

    @property
    def _must_hold(self) -> bool:
        """Whether nothing more is to be begun: the client has not read its answers, or has enough requests open."""
        return self._paused_since_s is not None or self._is_closing or len(self._open) > _MOST_PIPELINED

    def _steer_reading(self) -> None:
        """Leave what cannot be worked on in the kernel's buffers, where it holds the client up."""
        if self._transport is None or self._is_closing:
            return
        # Not at the first answer: each pause costs two calls of the kernel.
        most_open = _MOST_PIPELINED // 2 if self._is_read_paused else _MOST_PIPELINED
        must_pause = bool(self._behind) or self._paused_since_s is not None or len(self._open) > most_open
        if must_pause and not self._is_read_paused:
            self._transport.pause_reading()
        elif self._is_read_paused and not must_pause:
            self._transport.resume_reading()
        self._is_read_paused = must_pause
        if self._behind and not self._is_catching_up and not self._must_hold:
            self._is_catching_up = True
            asyncio.get_running_loop().call_soon(self._go_on)

    def _on_head(self, head: Head) -> None:
        exchange = Exchange(self, head, self._since_s)
        self._open.append(exchange)
        self._current = exchange
        try:
            self._intake.admit(head)
        except RefusedError as refused:
            self._reader.discard_body(head)
            self._current = None
            exchange.refuse(refused)
            return
        if head.headers.get(b"expect", b"").lower() == b"100-continue" and len(self._open) == 1 and self._transport:
            self._transport.write(CONTINUE)

    def _on_body(self, body: bytes) -> None:
        exchange, self._current = self._current, None
        if exchange is None:
            return
        exchange.num_bytes = len(body)
        try:
            self._intake.take(exchange, body)
        except RefusedError as refused:
            exchange.refuse(refused)
        except Exception:  # noqa: BLE001  # the boundary: a mistake of ours fails one request, not the process
            _LOG.exception("cannot answer %s %s", exchange.head.method, exchange.head.path)
            exchange.refuse(our_mistake())

    def _on_unreadable(self, refused: RefusedError) -> None:
        refused.closes = True
        exchange, self._current = self._current, None
        if exchange is None:
            # Nothing that could be read belongs to it, but it is answered in its turn like any other request.
            exchange = Exchange(self, Head("", "", {}, keeps_alive=False, is_old=False), self._since_s)
            self._open.append(exchange)
        exchange.refuse(refused)

    def _close_gently(self) -> None:
        """Let the client read the answer although it may still be sending: closing at once would reset it."""
        transport = self._transport
        if transport is None:
            return
        if not self._reader.is_inside and not self._is_read_paused:
            transport.close()
            return
        if transport.can_write_eof():
            transport.write_eof()
        if self._is_read_paused:
            transport.resume_reading()
        asyncio.get_running_loop().call_later(_LINGER_S, transport.close)
