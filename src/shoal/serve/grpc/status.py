"""The outcome of a call in gRPC's words: codes, trailers, and what becomes of a refusal."""

import functools
from enum import IntEnum
from http import HTTPStatus
from math import ceil

from shoal.serve.grpc.hpack import encode_headers
from shoal.serve.wire.refusal import RefusedError

# Clients bound the trailers that they take; C-core at 8 KiB.
_LONGEST_MESSAGE_BYTES = 2048


class StatusCode(IntEnum):
    """The codes that this server answers with, as gRPC numbers them."""

    OK = 0
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    UNAUTHENTICATED = 16


_CODES = {
    HTTPStatus.BAD_REQUEST: StatusCode.INVALID_ARGUMENT,
    HTTPStatus.UNAUTHORIZED: StatusCode.UNAUTHENTICATED,
    HTTPStatus.FORBIDDEN: StatusCode.PERMISSION_DENIED,
    HTTPStatus.NOT_FOUND: StatusCode.NOT_FOUND,
    HTTPStatus.METHOD_NOT_ALLOWED: StatusCode.UNIMPLEMENTED,
    HTTPStatus.REQUEST_TIMEOUT: StatusCode.DEADLINE_EXCEEDED,
    HTTPStatus.CONFLICT: StatusCode.FAILED_PRECONDITION,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: StatusCode.RESOURCE_EXHAUSTED,
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: StatusCode.UNIMPLEMENTED,
    HTTPStatus.UNPROCESSABLE_ENTITY: StatusCode.INVALID_ARGUMENT,
    HTTPStatus.TOO_MANY_REQUESTS: StatusCode.RESOURCE_EXHAUSTED,
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE: StatusCode.RESOURCE_EXHAUSTED,
    HTTPStatus.INTERNAL_SERVER_ERROR: StatusCode.INTERNAL,
    HTTPStatus.NOT_IMPLEMENTED: StatusCode.UNIMPLEMENTED,
    HTTPStatus.SERVICE_UNAVAILABLE: StatusCode.UNAVAILABLE,
    HTTPStatus.GATEWAY_TIMEOUT: StatusCode.DEADLINE_EXCEEDED,
    HTTPStatus.INSUFFICIENT_STORAGE: StatusCode.UNAVAILABLE,
}

_BEGIN = [(b":status", b"200"), (b"content-type", b"application/grpc")]
ANSWER_HEADERS = encode_headers([*_BEGIN, (b"grpc-accept-encoding", b"identity,deflate,gzip")])
"""What comes before the message of an answer, as a header block."""
OK_TRAILERS = encode_headers([(b"grpc-status", b"0")])
"""What comes after it."""


@functools.cache
def not_grpc(status: HTTPStatus) -> bytes:
    """The header block of the whole answer to a client that does not speak gRPC: an HTTP status."""
    return encode_headers([(b":status", b"%d" % status), (b"content-length", b"0")])


def code_of(refused: RefusedError) -> StatusCode:
    """What a refusal's HTTP status means in gRPC."""
    known = _CODES.get(HTTPStatus(refused.status))
    if known is not None:
        return known
    # 408 and its like are the client's to mend, 5xx are ours.
    return StatusCode.INVALID_ARGUMENT if refused.status < HTTPStatus.INTERNAL_SERVER_ERROR else StatusCode.INTERNAL


def refusal_headers(refused: RefusedError) -> bytes:
    """The header block of the whole answer to a call that is refused: code, message, and when to come back."""
    return encode_headers([*_BEGIN, *_why(refused)])


def refusal_trailers(refused: RefusedError) -> bytes:
    """The header block that ends a call whose answer has begun: the same, without what began it."""
    return encode_headers(_why(refused))


def _why(refused: RefusedError) -> list[tuple[bytes, bytes]]:
    headers = [
        (b"grpc-status", b"%d" % code_of(refused)),
        (b"grpc-message", percent_encode(str(refused))),
    ]
    if refused.retry_after_s is not None:
        # Clients that have a policy for retries heed the first; the second is what the message speaks of.
        headers.append((b"grpc-retry-pushback-ms", b"%d" % max(1, round(refused.retry_after_s * 1000))))
        headers.append((b"retry-after", b"%d" % max(1, ceil(refused.retry_after_s))))
    if refused.status == HTTPStatus.UNSUPPORTED_MEDIA_TYPE:
        headers.append((b"grpc-accept-encoding", b"identity,deflate,gzip"))
    return headers


def percent_encode(text: str) -> bytes:
    """A message as gRPC carries it: printable ASCII as it is, all else as %XX of its UTF-8, cut when long."""
    raw = text.encode("utf-8", "replace")[:_LONGEST_MESSAGE_BYTES]
    if raw.isascii() and text.isprintable() and b"%" not in raw:
        return raw
    return "".join(chr(byte) if 0x20 <= byte <= 0x7E and byte != 0x25 else f"%{byte:02X}" for byte in raw).encode()
