"""A request that is answered with an error: what was wrong with it, as a status and a JSON body."""

from http import HTTPStatus

import msgspec

from shoal.base import ServeError

_LONGEST_FOUND = 120


class RefusedError(ServeError):
    """Why one request is not answered with a prediction; becomes its response.

    Attributes:
        field: the part of the request that is wrong, such as "inputs.image.shape"; None when it is not one field.
        found: what stood there, in words.
        expected: what should have stood there.
        retry_after_s: when the client may come back (503 only).
        closes: whether the connection can no longer be used, because what follows on it cannot be understood.
        allow: methods that the path does take (405 only).
        answer: the bytes of the answer, once they were written: under overload one refusal answers many requests.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        next_step: str,
        field: str | None = None,
        found: str | None = None,
        expected: str | None = None,
        retry_after_s: float | None = None,
        closes: bool = False,
        allow: str | None = None,
    ) -> None:
        super().__init__(message, next_step=next_step, status=status)
        self.field = field
        self.found = found
        self.expected = expected
        self.retry_after_s = retry_after_s
        self.closes = closes
        self.allow = allow
        self.answer: bytes | None = None

    def body(self) -> bytes:
        """The response's JSON: `error` as the Open Inference Protocol has it, and the parts for programs."""
        fields = {
            "error": self.message,
            "status": f"{self.status} {HTTPStatus(self.status).phrase}",
            "field": self.field,
            "found": self.found,
            "expected": self.expected,
            "next": self.next_step,
        }
        return msgspec.json.encode({name: value for name, value in fields.items() if value is not None})


def wrong_field(field: str, *, found: object, expected: str, next_step: str | None = None) -> RefusedError:
    """The 400 for a field of the request that holds something else than it must."""
    shown = shorten(found)
    return RefusedError(
        400,
        f"{field}: found {shown}, expected {expected}",
        field=field,
        found=shown,
        expected=expected,
        next_step=next_step or f"send {field} as {expected}",
    )


def our_mistake() -> RefusedError:
    """The 500 for a request that met a bug of the server."""
    return RefusedError(
        500, "the server made a mistake on this request", next_step="look into the server's log, and report it to us"
    )


def shorten(value: object) -> str:
    """The value in words, never longer than a line: bodies may hold megabytes where a name should be."""
    text = value if isinstance(value, str) else repr(value)
    # What came from outside may hold half a surrogate pair, which no JSON can carry back.
    text = text.encode("utf-8", "replace").decode()
    return text if len(text) <= _LONGEST_FOUND else f"{text[:_LONGEST_FOUND]}... ({len(text)} characters)"


def too_large(status: int, what: str, found: int, limit: int) -> RefusedError:
    """The 413 for a body or the 431 for headers of at least `found` bytes."""
    return RefusedError(
        status,
        f"the request's {what} has at least {found} bytes, at most {limit} are taken",
        field=what,
        found=f"at least {found} bytes",
        expected=f"at most {limit} bytes",
        next_step="send fewer rows per request, or binary tensors"
        if what == "body"
        else "send fewer or shorter headers",
    )


def too_slow(limit_s: float) -> RefusedError:
    """The 408 for a request that had not ended in time."""
    refused = wrong_field("request", found=f"no end after {limit_s:g} s", expected="a whole request within that time")
    refused.status = 408
    return refused
