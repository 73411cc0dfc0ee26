"""HTTP/1.1 as bytes: what a connection sent becomes requests, answers become bytes. No socket and no clock here."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from math import ceil
from typing import Any, TypeAlias

import httptools

from shoal.serve.wire.refusal import RefusedError, too_large, wrong_field

# The parser itself keeps a header of any length.
MOST_HEAD_BYTES = 32 << 10
# Of a header: the colon, the blank and the line break.
_HEADER_MARKS = 4
# Only these are kept of a request's headers: the rest is the client's business, and costs time.
_KEPT = frozenset(
    name.encode()
    for name in [
        "authorization",
        "x-api-key",
        "content-length",
        "content-type",
        "content-encoding",
        "expect",
        "host",
        "origin",
        "traceparent",
        "tracestate",
        "inference-header-content-length",
        "x-priority",
        "x-timeout-us",
    ]
)
_STATUS_LINES: dict[int, bytes] = {
    status: f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n".encode() for status in HTTPStatus
}
HEAD_END = b"\r\n\r\n"
# Of heads that are known again: those of ordinary clients are shorter, and as many lengths of bodies are common.
_MOST_KNOWN_BYTES = 1 << 10
_MOST_KNOWN = 1024
_JSON, _BINARY = b"application/json", b"application/octet-stream"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


@dataclass(slots=True)
class Head:
    """A request up to its body.

    Attributes:
        path: without the query, not yet percent-decoded.
        headers: the few that the server reads, by lower-case name.
        keeps_alive: whether the client wants to send more on this connection.
        is_old: HTTP/1.0, where keeping the connection must be said.
        query: what follows the path's question mark, not yet percent-decoded.
        fits_any: whether an answer can be sent as it was written, while the connection stays open.
        judged: what its reader's owner has found out about it, once for all requests that begin with the same bytes.
    """

    method: str
    path: str
    headers: dict[bytes, bytes]
    keeps_alive: bool
    is_old: bool
    query: str = ""
    fits_any: bool = field(init=False, compare=False)
    judged: Any = field(init=False, compare=False, default=None)

    def __post_init__(self) -> None:
        self.fits_any = not self.is_old and self.method != "HEAD"


Event: TypeAlias = Head | bytes | RefusedError


class KnownHeads:
    """Heads that were read before, byte for byte: a client's differ in the length of the body at most.

    What is kept is only what the parser took, and bounded: a client that never says the same twice is read as if there
    were nothing. For the event loop alone.
    """

    def __init__(self) -> None:
        self._found: dict[bytes, tuple[Head, int]] = {}

    def recall(self, data: bytes, most_body_bytes: int) -> list[Event] | None:
        """The events of the one whole request that the bytes are, if its head is known."""
        end = data.find(HEAD_END, 0, _MOST_KNOWN_BYTES) + len(HEAD_END)
        known = self._found.get(data[:end])
        if known is None or len(data) - end != known[1] or known[1] > most_body_bytes:
            return None
        return [known[0], data[end:]]

    def remember(self, data: bytes, events: list[Event]) -> None:
        """Know the head again, if the bytes were one whole request of the plainest kind."""
        if len(events) != 2 or not isinstance(head := events[0], Head):
            return
        length = head.headers.get(b"content-length")
        # Without the length the parser itself found where the body ends, or the connection ends with it.
        if length is None or not head.keeps_alive or head.is_old or b"expect" in head.headers:
            return
        # A place in a trace never comes twice.
        if b"traceparent" in head.headers:
            return
        end = data.find(HEAD_END, 0, _MOST_KNOWN_BYTES) + len(HEAD_END)
        if end < len(HEAD_END) or len(data) - end != int(length):
            return
        if len(self._found) >= _MOST_KNOWN:
            self._found.clear()
        self._found[data[:end]] = head, len(data) - end


class RequestReader:
    """Turns the bytes of one connection into events, in order: for each request its `Head`, then its whole body.

    A `RefusedError` is the last event ever: what follows it on the connection cannot be understood. Bodies beyond
    `most_body_bytes` are refused before they are kept. `is_inside` tells whether a request has begun and not ended.
    """

    def __init__(self, *, most_body_bytes: int, known: KnownHeads | None = None) -> None:
        """Read with a limit; `known` is shared by readers whose heads are judged by the same rules."""
        self.most_body_bytes = most_body_bytes
        self._known = known or KnownHeads()
        self.is_inside = False
        self._events: list[Event] = []
        self._is_dead = False
        # A request that closes the connection was read: the parser takes nothing behind it.
        self._is_last = False
        # Only such a read can hold a whole head that is too large: in all others nothing need be counted.
        self._is_large_read = False
        # Of the request whose body is being read.
        self._head: Head | None = None
        self._parser = httptools.HttpRequestParser(self)
        self._reset()

    def feed(self, data: bytes) -> list[Event]:
        """Take the next bytes, however they were cut, and return what they completed."""
        if self._is_dead:
            return []
        begins_here = not self.is_inside
        if begins_here and not self._is_last:
            recalled = self._known.recall(data, self.most_body_bytes)
            if recalled is not None:
                return recalled
        if not self._has_head:
            self._head_bytes += len(data)
        self._is_large_read = len(data) > MOST_HEAD_BYTES
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # It was refused when its head was complete.
            self._refuse(_upgrade())
        except httptools.HttpParserError as error:
            self._refuse(
                wrong_field(
                    "request",
                    found=f"bytes that are not HTTP/1.1 ({error})",
                    expected="an HTTP/1.1 request",
                    next_step="check that the client speaks plain HTTP to this port",
                )
            )
        # Only bytes of an unfinished head count: several whole requests may arrive at once.
        if not self._has_head and self.is_inside and self._head_bytes > MOST_HEAD_BYTES:
            self._refuse(too_large(431, "headers", self._head_bytes, MOST_HEAD_BYTES))
        events, self._events = self._events, []
        if begins_here and not self.is_inside:
            self._known.remember(data, events)
        return events

    def discard_body(self, head: Head | None = None) -> None:
        """Do not keep what is still to come of a request's body: it was answered from its head.

        Args:
            head: of that request; None for whichever is being read. One whose body has come already is left alone: the
                next request's body must not be lost for it.
        """
        if self._head is None or (head is not None and head is not self._head):
            return
        self._is_discarding = True
        self._body.clear()

    @property
    def buffered_bytes(self) -> int:
        """Bytes kept of a body that is not complete."""
        return 0 if self._is_discarding else self._body_bytes

    def on_message_begin(self) -> None:
        """For the parser."""
        self.is_inside = True

    def on_url(self, part: bytes) -> None:
        """For the parser; a long address comes in parts."""
        self._target += part
        if self._is_large_read:
            self._count_of_head(len(part))

    def on_header(self, name: bytes, value: bytes) -> None:
        """For the parser."""
        name = name.lower()
        # Those behind a chunked body come when the request was judged by its head: they count for nothing.
        if name in _KEPT and not self._has_head:
            self._headers[name] = value
        if self._is_large_read:
            self._count_of_head(len(name) + len(value) + _HEADER_MARKS)

    def on_headers_complete(self) -> None:
        """For the parser."""
        parser = self._parser
        self._has_head = True
        if parser.should_upgrade():
            # Going on without upgrading would be allowed, but the parser skips the body.
            self._refuse(_upgrade())
        # Refused before its body is sent, let alone kept.
        announced = self._headers.get(b"content-length", b"0")
        if announced.isdigit() and int(announced) > self.most_body_bytes:
            self._refuse(too_large(413, "body", int(announced), self.most_body_bytes))
        if self._is_dead:
            return
        path, query = _path_and_query(self._target)
        self._is_last = not parser.should_keep_alive()
        self._head = Head(
            parser.get_method().decode("latin-1"),
            path,
            self._headers,
            not self._is_last,
            parser.get_http_version() == "1.0",
            query,
        )
        self._events.append(self._head)

    def on_body(self, part: bytes) -> None:
        """For the parser."""
        if self._is_dead or self._is_discarding:
            return
        self._body_bytes += len(part)
        if self._body_bytes > self.most_body_bytes:
            self._refuse(too_large(413, "body", self._body_bytes, self.most_body_bytes))
        else:
            self._body.append(part)

    def on_message_complete(self) -> None:
        """For the parser."""
        if not self._is_dead:
            self._events.append(self._body[0] if len(self._body) == 1 else b"".join(self._body))
        self._reset()

    def _count_of_head(self, num_bytes: int) -> None:
        self._named_bytes += num_bytes
        if self._named_bytes > MOST_HEAD_BYTES:
            self._refuse(too_large(431, "headers", self._named_bytes, MOST_HEAD_BYTES))

    def _reset(self) -> None:
        self.is_inside = self._is_discarding = self._has_head = False
        self._head_bytes = self._body_bytes = self._named_bytes = 0
        self._head = None
        self._target = b""
        self._headers: dict[bytes, bytes] = {}
        self._body: list[bytes] = []

    def _refuse(self, refused: RefusedError) -> None:
        if self._is_dead:
            return
        refused.closes = True
        self._is_dead = True
        self._body.clear()
        self._events.append(refused)


def response(
    status: int,
    body: bytes,
    *,
    json_bytes: int | None = None,
    content_type: bytes | None = None,
    headers: Mapping[str, str] | None = None,
) -> bytes:
    """The bytes of an answer, without the line that says what becomes of the connection (see `finish`).

    Args:
        status: the HTTP status.
        body: all of it.
        json_bytes: how many bytes at its start are JSON, when raw tensors follow.
        content_type: None for JSON, or for what `json_bytes` implies.
        headers: further ones.
    """
    if json_bytes is None and content_type is None and headers is None:
        return b"%bContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (
            _STATUS_LINES[status],
            len(body),
            body,
        )
    kind = content_type or (_JSON if json_bytes is None else _BINARY)
    lines = [_STATUS_LINES[status], b"Content-Type: ", kind, b"\r\nContent-Length: %d\r\n" % len(body)]
    if json_bytes is not None:
        lines.append(b"Inference-Header-Content-Length: %d\r\n" % json_bytes)
    for name, value in (headers or {}).items():
        lines.append(f"{name}: {value}\r\n".encode("latin-1"))
    lines += (b"\r\n", body)
    return b"".join(lines)


def refusal(refused: RefusedError) -> bytes:
    """The bytes of the answer to a request that is refused."""
    if refused.answer is None:
        refused.answer = _refusal(refused)
    return refused.answer


def _refusal(refused: RefusedError) -> bytes:
    headers = {}
    if refused.retry_after_s is not None:
        headers["Retry-After"] = str(max(1, ceil(refused.retry_after_s)))
    if refused.allow is not None:
        headers["Allow"] = refused.allow
    if refused.status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = 'Bearer realm="shoal"'
    return response(refused.status, refused.body(), headers=headers)


def add_header(answer: bytes, name: bytes, value: bytes) -> bytes:
    """An answer with one more line in its head."""
    head, _, body = answer.partition(HEAD_END)
    return b"".join((head, b"\r\n", name, b": ", value, HEAD_END, body))


def finish(answer: bytes, *, closes: bool, is_old: bool, is_head_only: bool) -> bytes:
    """Fit an answer to the request it is for: what becomes of the connection, and no body where none may be."""
    if not (closes or is_old or is_head_only):
        return answer
    head, _, body = answer.partition(b"\r\n\r\n")
    if closes or is_old:
        head += b"\r\nConnection: " + (b"close" if closes else b"keep-alive")
    return head + b"\r\n\r\n" + (b"" if is_head_only else body)


@functools.lru_cache(maxsize=256)
def _path_and_query(target: bytes) -> tuple[str, str]:
    path, _, query = target.partition(b"?")
    if path.startswith((b"http://", b"https://")):
        # A proxy may send the absolute form, which every server must take.
        path = b"/" + path.split(b"//", 1)[1].partition(b"/")[2]
    return path.decode("latin-1"), query.decode("latin-1")


def _upgrade() -> RefusedError:
    return wrong_field(
        "Upgrade", found="a wish for another protocol", expected="HTTP/1.1", next_step="leave the header out"
    )
