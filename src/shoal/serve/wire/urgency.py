"""How urgent a request says it is: its priority and its timeout, from headers or from the protocol's parameters."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from shoal.serve.wire.refusal import wrong_field

HIGHEST_LEVEL, DEFAULT_LEVEL, LOWEST_LEVEL = 1, 3, 5
PRIORITY_HEADER, TIMEOUT_HEADER = b"x-priority", b"x-timeout-us"
# Beyond any real wait; what it bounds is the number that a client can make the server compute with.
MOST_TIMEOUT_US = 24 * 3600 * 1_000_000
_PRIORITIES = f"a whole number from {HIGHEST_LEVEL}, the highest, to {LOWEST_LEVEL}, or 0 for {DEFAULT_LEVEL}"
_TIMEOUTS = f"a whole number of microseconds up to {MOST_TIMEOUT_US}, or 0 for no timeout"
_MOST_DIGITS = 18


class Urgency(NamedTuple):
    """What a request asks of the queue.

    Attributes:
        level: from 1, the highest, to 5.
        timeout_s: the answer is worth nothing later than this after the request's first byte.
    """

    level: int = DEFAULT_LEVEL
    timeout_s: float = math.inf


PLAIN = Urgency()
FIRST = Urgency(HIGHEST_LEVEL)


def from_headers(headers: Mapping[bytes, bytes]) -> Urgency | None:
    """Read `X-Priority` and `X-Timeout-Us`; None when there is neither.

    Raises:
        RefusedError: 400, a header is no number or out of range.
    """
    priority, timeout = headers.get(PRIORITY_HEADER), headers.get(TIMEOUT_HEADER)
    if priority is None and timeout is None:
        return None
    return Urgency(
        _level("X-Priority", _number("X-Priority", priority, _PRIORITIES)),
        _timeout_s("X-Timeout-Us", _number("X-Timeout-Us", timeout, _TIMEOUTS)),
    )


def from_parameters(parameters: Mapping[str, Any] | None, by_headers: Urgency | None) -> Urgency:
    """Read the parameters `priority` and `timeout`, which mean what they do to Triton, on top of the headers.

    Args:
        parameters: of the request, as decoded.
        by_headers: what `from_headers` gave.

    Raises:
        RefusedError: 400, a parameter is no number, out of range, or says other than the header.
    """
    base = by_headers or PLAIN
    if not parameters:
        return base
    level, timeout_s = base
    if "priority" in parameters:
        level = _level("parameters.priority", parameters["priority"])
        _check_agreement("parameters.priority", level, base.level, DEFAULT_LEVEL)
    if "timeout" in parameters:
        timeout_s = _timeout_s("parameters.timeout", parameters["timeout"])
        _check_agreement("parameters.timeout", timeout_s, base.timeout_s, math.inf)
    return PLAIN if (level, timeout_s) == PLAIN else Urgency(level, timeout_s)


def may_name_priority(body: bytes) -> bool:
    """Whether a body that was not parsed yet could hold a priority: it costs far less than parsing."""
    return b'"priority"' in body


def _level(field: str, value: object) -> int:
    # Not isinstance: true is an int to Python.
    if type(value) is not int or not 0 <= value <= LOWEST_LEVEL:
        raise wrong_field(field, found=value, expected=_PRIORITIES)
    return value or DEFAULT_LEVEL


def _timeout_s(field: str, value: object) -> float:
    if type(value) is not int or not 0 <= value <= MOST_TIMEOUT_US:
        raise wrong_field(field, found=value, expected=_TIMEOUTS)
    return value / 1e6 if value else math.inf


def _number(header: str, value: bytes | None, expected: str) -> int:
    if value is None:
        return 0
    if not value.isdigit() or len(value) > _MOST_DIGITS:
        raise wrong_field(header, found=value.decode("latin-1"), expected=expected)
    return int(value)


def _check_agreement(field: str, found: float, by_header: float, default: float) -> None:
    # Either could be what the client meant: a proxy may have set the header.
    if by_header not in (default, found):
        raise wrong_field(field, found=found, expected=f"{by_header}, as in the header")
