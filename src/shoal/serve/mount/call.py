"""One request of an ASGI server: read within the desk's limits, answered by the desk, sent back as it wrote it."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias, cast
from urllib.parse import quote, unquote

from shoal.serve.batching.admission import draining
from shoal.serve.desk.connection import Connection, Exchange, Patience
from shoal.serve.desk.desk import Desk
from shoal.serve.desk.routes import PREFIX_HEADER
from shoal.serve.wire.http import MOST_HEAD_BYTES, Head, refusal
from shoal.serve.wire.refusal import RefusedError, our_mistake, too_large, too_slow, wrong_field

Scope: TypeAlias = MutableMapping[str, Any]
AsgiMessage: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[AsgiMessage]]
Send: TypeAlias = Callable[[AsgiMessage], Awaitable[None]]

_LOG = logging.getLogger(__name__)
# Of a header: the colon, the blank and the line break.
_HEADER_MARKS = 4
# A number that any machine can hold.
_MOST_DIGITS = 18
# What may stand in a path besides letters and digits.
_IN_PATHS = "/:@!$&'()*+,;=~-._"


class AsgiCall:
    """One request and its answer; to the desk a connection that brings one. Used by the event loop alone."""

    def __init__(self, desk: Desk, scope: Scope, *, most_body_bytes: int, patience: Patience) -> None:
        """Prepare to answer a request of type "http"."""
        self.buffered_bytes = 0
        self._desk = desk
        self._scope = scope
        self._most_body_bytes = most_body_bytes
        self._patience = patience
        # The desk knows connections over sockets; of these it uses what is here too.
        self._exchange = Exchange(cast("Connection", self), read_head(scope), time.monotonic())
        self._answered = asyncio.Event()
        self._timeout: asyncio.Timeout | None = None
        self._why_cut: RefusedError | None = None

    @property
    def is_busy(self) -> bool:
        """Whether it is not answered yet."""
        return not self._answered.is_set()

    async def run(self, receive: Receive, send: Send) -> None:
        """Answer the request, or return when its client has gone before its end."""
        self._desk.opened(cast("Connection", self))
        try:
            if not await self._take(receive):
                return
            await self._answered.wait()
        finally:
            self._desk.closed(cast("Connection", self))
        exchange = self._exchange
        await send_answer(self._scope, send, exchange.answered_status, exchange.answered or b"", closes=exchange.closes)

    def flush(self) -> None:
        """Hear from the exchange that it is answered."""
        if self.is_busy:
            self._desk.count(self._exchange.answered_status)
            self._answered.set()

    def check(self, now_s: float) -> None:
        """Nothing: what takes too long has its own timeout."""

    def close(self) -> None:
        """Refuse what is not answered: the front ends."""
        if not self.is_busy or self._why_cut is not None:
            return
        if self._timeout is not None:
            # It is answered by whoever waits for the rest of the body.
            self._why_cut = draining()
            self._timeout.reschedule(0.0)
        else:
            self._exchange.refuse(draining())

    async def _take(self, receive: Receive) -> bool:
        """Hand the whole request to the desk; False when the client is gone."""
        exchange = self._exchange
        try:
            _check_size(self._scope, exchange.head, self._most_body_bytes)
            self._desk.admit(exchange.head)
            body = await self._read_body(receive)
            if body is None:
                return False
            self._desk.take(exchange, body)
        except RefusedError as refused:
            exchange.refuse(refused)
        except Exception:  # noqa: BLE001  # the boundary: a mistake of ours fails one request, not the host
            _LOG.exception("cannot answer %s %s", exchange.head.method, exchange.head.path)
            exchange.refuse(our_mistake())
        return True

    async def _read_body(self, receive: Receive) -> bytes | None:
        parts: list[bytes] = []
        try:
            async with asyncio.timeout(self._patience.request_s) as self._timeout:
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return None
                    parts.append(message.get("body", b""))
                    self.buffered_bytes += len(parts[-1])
                    if self.buffered_bytes > self._most_body_bytes:
                        raise _closing(too_large(413, "body", self.buffered_bytes, self._most_body_bytes))
                    if not message.get("more_body", False):
                        return parts[0] if len(parts) == 1 else b"".join(parts)
        except TimeoutError:
            raise self._why_cut or _closing(too_slow(self._patience.request_s)) from None
        finally:
            self._timeout = None
            self.buffered_bytes = 0


def read_head(scope: Scope) -> Head:
    """The request up to its body, as the desk knows it: its path begins where the application is mounted.

    The prefix that a client must write before it goes in a header, which is taken from nobody else.
    """
    headers = {name.lower(): value for name, value in scope["headers"]}
    headers.pop(PREFIX_HEADER, None)
    if prefix := scope.get("root_path", "").rstrip("/"):
        headers[PREFIX_HEADER] = quote(prefix, safe=_IN_PATHS).encode()
    query = scope.get("query_string", b"").decode("latin-1")
    return Head(scope["method"], _path_below(scope), headers, keeps_alive=True, is_old=False, query=query)


async def send_answer(scope: Scope, send: Send, status: int, answer: bytes, *, closes: bool = False) -> None:
    """Send an answer that was written as HTTP/1.1, status line and all; a client that has gone is left alone."""
    head, _, body = answer.partition(b"\r\n\r\n")
    headers = []
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b": ")
        headers.append((name.lower(), value))
    # Later versions have no such header: there one request does not hold up the next.
    if closes and scope.get("http_version", "1.1").startswith("1"):
        headers.append((b"connection", b"close"))
    try:
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})
    except OSError:
        _LOG.debug("the client has gone before its answer")


async def send_refusal(scope: Scope, send: Send, refused: RefusedError) -> None:
    """Answer a request that never comes to the desk."""
    await send_answer(scope, send, refused.status, refusal(refused), closes=refused.closes)


def _path_below(scope: Scope) -> str:
    """The request's path without the prefix of the mount, percent-encoded as it was sent."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "").rstrip("/")
    # Beside the whole prefix the part that the host itself has: a proxy may have taken its own away.
    for prefix in (root, root.removeprefix(scope.get("app_root_path", "").rstrip("/"))):
        if prefix and (path == prefix or path.startswith(f"{prefix}/")):
            break
    else:
        prefix = ""
    below = path[len(prefix) :]
    raw = scope.get("raw_path")
    if raw is not None:
        # As many segments further as the prefix has.
        parts = raw.partition(b"?")[0].decode("latin-1").split("/", prefix.count("/") + 1)
        sent = f"/{parts[-1]}"
        if len(parts) == prefix.count("/") + 2 and unquote(sent) == below:
            return sent
    return quote(below, safe=_IN_PATHS)


def _check_size(scope: Scope, head: Head, most_body_bytes: int) -> None:
    """Raise the refusal of a request whose head is too large, or announces a body that is."""
    num_bytes = len(head.path) + len(head.query)
    for name, value in scope["headers"]:
        num_bytes += len(name) + len(value) + _HEADER_MARKS
        if num_bytes > MOST_HEAD_BYTES:
            raise _closing(too_large(431, "headers", num_bytes, MOST_HEAD_BYTES))
    announced = head.headers.get(b"content-length", b"0")
    if not announced.isdigit() or len(announced) > _MOST_DIGITS:
        raise _closing(
            wrong_field("Content-Length", found=announced.decode("latin-1"), expected="the number of the body's bytes")
        )
    if int(announced) > most_body_bytes:
        raise _closing(too_large(413, "body", int(announced), most_body_bytes))


def _closing(refused: RefusedError) -> RefusedError:
    refused.closes = True
    return refused
