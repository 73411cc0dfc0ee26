"""The headers of a call: read once for each distinct block, checked, and reduced to what the server needs."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final

from shoal.serve.grpc.hpack import Decoder, Header
from shoal.serve.wire.refusal import RefusedError, shorten, wrong_field

MOST_HEADER_BYTES: Final = 32 << 10
# Only these are kept: the rest is the client's business.
_KEPT = frozenset([b"authorization", b"x-api-key", b"traceparent", b"tracestate", b"x-priority", b"x-timeout-us"])
# They belong to a hop of HTTP/1.1: in HTTP/2 they make a request malformed (RFC 9113, section 8.2.2).
_OF_A_HOP = frozenset([b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"])
_PSEUDO = frozenset([b":method", b":scheme", b":path", b":authority"])
_GRPC = b"application/grpc"
_UNITS_S = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
_MOST_TIMEOUT_DIGITS = 8
# A client sends a handful of distinct blocks; one that always changes must not fill the memory.
_MOST_KNOWN = 64
ENCODINGS: Final = ("identity", "deflate", "gzip")


@dataclass(slots=True)
class CallHead:
    """A call up to its message.

    Attributes:
        path: "/package.Service/Method".
        headers: the few that the server reads.
        timeout_s: how long the client will wait from now on; None for no end.
        encoding: how the message is compressed where it says that it is.
        refused: why the call is refused whatever follows.
        http_status: the answer to what is no gRPC at all; None for gRPC.
    """

    path: str = ""
    headers: Mapping[bytes, bytes] = field(default_factory=dict)
    timeout_s: float | None = None
    encoding: str = "identity"
    refused: RefusedError | None = None
    http_status: HTTPStatus | None = None


class HeadReader:
    """Reads all header blocks of one connection, in order."""

    def __init__(self) -> None:
        self._decoder = Decoder(most_list_bytes=MOST_HEADER_BYTES)
        self._known: dict[bytes, CallHead | None] = {}

    def read(self, block: bytes) -> CallHead | None:
        """The head that a block holds; None for a malformed one, which ends its stream.

        Raises:
            BrokenError: the block cannot be read, and so no later one.
        """
        try:
            # A client's calls differ in their messages: nearly every block has been seen before.
            return self._known[block]
        except KeyError:
            pass
        before = self._decoder.num_changes
        headers = self._decoder.decode(block)
        head = _too_large() if headers is None else read_head(headers)
        if self._decoder.num_changes != before or len(self._known) >= _MOST_KNOWN:
            self._known.clear()
        # A block that changes the table must reach the decoder each time.
        if self._decoder.num_changes == before:
            self._known[block] = head
        return head


def read_head(headers: list[Header]) -> CallHead | None:
    """Check a request's headers and keep what the server needs of them; None for a malformed request."""
    pseudo: dict[bytes, bytes] = {}
    others: dict[bytes, bytes] = {}
    for name, value in headers:
        if name.startswith(b":"):
            if others or name in pseudo or name not in _PSEUDO:
                return None
            pseudo[name] = value
        elif not name or name != name.lower() or name in _OF_A_HOP or (name == b"te" and value != b"trailers"):
            return None
        else:
            others[name] = value
    if not (pseudo.get(b":method") and pseudo.get(b":scheme") and pseudo.get(b":path")):
        return None
    head = CallHead(
        path=pseudo[b":path"].decode("latin-1"),
        headers={name: value for name, value in others.items() if name in _KEPT},
        encoding=others.get(b"grpc-encoding", b"identity").decode("latin-1"),
    )
    if pseudo[b":method"] != b"POST":
        head.http_status = HTTPStatus.METHOD_NOT_ALLOWED
    elif not others.get(b"content-type", b"").startswith(_GRPC):
        head.http_status = HTTPStatus.UNSUPPORTED_MEDIA_TYPE
    elif head.encoding not in ENCODINGS:
        head.refused = _unknown_encoding(head.encoding)
    elif (timeout := others.get(b"grpc-timeout")) is not None:
        head.timeout_s = read_timeout(timeout)
        head.refused = _no_timeout(timeout) if head.timeout_s is None else None
    return head


def read_timeout(value: bytes) -> float | None:
    """Seconds of a grpc-timeout such as b"100m"; None for what is none."""
    digits, unit = value[:-1], value[-1:]
    if not digits.isdigit() or len(digits) > _MOST_TIMEOUT_DIGITS or unit not in _UNITS_S:
        return None
    return int(digits) * _UNITS_S[unit]


def _too_large() -> CallHead:
    return CallHead(
        refused=RefusedError(
            431,
            f"the call's headers have more than {MOST_HEADER_BYTES} bytes",
            field="headers",
            found=f"more than {MOST_HEADER_BYTES} bytes",
            expected=f"at most {MOST_HEADER_BYTES} bytes",
            next_step="send less metadata",
        )
    )


def _unknown_encoding(found: str) -> RefusedError:
    return RefusedError(
        415,
        f"grpc-encoding: found {shorten(found)}, expected one of {', '.join(ENCODINGS)}",
        field="grpc-encoding",
        found=shorten(found),
        expected=f"one of {', '.join(ENCODINGS)}",
        next_step="send the message as it is: raw contents hardly shrink",
    )


def _no_timeout(found: bytes) -> RefusedError:
    return wrong_field(
        "grpc-timeout",
        found=found.decode("latin-1"),
        expected="up to eight digits and one of the units H, M, S, m, u and n",
    )
