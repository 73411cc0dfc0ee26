"""W3C Trace Context: the place of a request in its caller's trace, as two headers carry it. No clock, no socket here.

Source: https://www.w3.org/TR/trace-context/, sections 3.2 (traceparent) and 3.3 (tracestate).
"""

import random
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

PARENT, STATE = b"traceparent", b"tracestate"
_FORM = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.DOTALL)
_NO_VERSION = b"ff"
_FIRST_VERSION = b"00"
_SAMPLED = 0x01
# What every party must at least pass on; more would be the caller's way to make us hold what he likes.
_MOST_STATE_BYTES = 512
_TRACE_BITS, _SPAN_BITS = 128, 64
# The system's own source: fronts are forked from one process, and must not count up the same numbers.
_numbers = random.SystemRandom()


class Parent(NamedTuple):
    """Who called: the trace, the caller's span, whether the caller records it, and what it says to its like."""

    trace_id: str
    span_id: str
    is_sampled: bool
    state: str


@dataclass(frozen=True, slots=True)
class TraceContext:
    """The place of one request in a trace.

    Attributes:
        trace_id: 32 hexadecimal digits.
        span_id: 16, of the request's own span.
        parent_id: 16, of the caller's span; None where the trace begins here.
        is_sampled: whether spans are recorded.
        state: the caller's tracestate, handed on as it came.
    """

    trace_id: str
    span_id: str
    parent_id: str | None
    is_sampled: bool
    state: str = ""

    def header(self) -> bytes:
        """The traceparent that says where this request is."""
        return f"00-{self.trace_id}-{self.span_id}-{'01' if self.is_sampled else '00'}".encode()


def read_parent(headers: Mapping[bytes, bytes]) -> Parent | None:
    """The caller's context; None for none, and for one that is malformed, which counts as none by the standard."""
    value = headers.get(PARENT)
    found = None if value is None else _FORM.fullmatch(value.strip())
    if found is None:
        return None
    version, trace_id, span_id, flags, rest = found.groups()
    # A later version may say more behind what the first one says.
    is_known = version != _NO_VERSION and not (rest and version == _FIRST_VERSION)
    if not is_known or not trace_id.strip(b"0") or not span_id.strip(b"0"):
        return None
    state = headers.get(STATE, b"").strip()
    if len(state) > _MOST_STATE_BYTES:
        state = b""
    return Parent(trace_id.decode(), span_id.decode(), bool(int(flags, 16) & _SAMPLED), state.decode("ascii", "ignore"))


def join(parent: Parent) -> TraceContext:
    """A place in the caller's trace, recorded as the caller's is."""
    return TraceContext(parent.trace_id, _new_id(_SPAN_BITS), parent.span_id, parent.is_sampled, parent.state)


def begin(*, sample: float) -> TraceContext | None:
    """The first place of a new trace, in this share of all cases; else None."""
    number = _numbers.getrandbits(_TRACE_BITS)
    # By the id, as all samplers do: another service that samples by it comes to the same.
    if (number & (2**_SPAN_BITS - 1)) >= sample * 2**_SPAN_BITS or not number:
        return None
    return TraceContext(f"{number:032x}", _new_id(_SPAN_BITS), None, is_sampled=True)


def _new_id(bits: int) -> str:
    # Zero means none.
    return f"{_numbers.getrandbits(bits) or 1:0{bits // 4}x}"
