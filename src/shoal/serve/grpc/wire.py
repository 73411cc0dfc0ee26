"""The wire format of protocol buffers: bytes to fields, values to bytes, and packed numbers to arrays."""

import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

VARINT: Final = 0
FIXED64: Final = 1
BYTES: Final = 2
FIXED32: Final = 5

Field: TypeAlias = tuple[int, int, int, int]
"""(number, wire type, start, end): where the content of a field lies. For VARINT, `start` is the value itself."""

_MOST_VARINT_BYTES = 10
_FIXED_BYTES = {FIXED64: 8, FIXED32: 4}
_WHOLE_64 = (1 << 64) - 1
_SIGN_64 = 1 << 63
_DOUBLE = struct.Struct("<d")


class WireError(ValueError):
    """The bytes are no message: a field is cut, or of a kind that its number does not have."""


def read_fields(data: bytes, start: int, end: int) -> Iterator[Field]:
    """Yield the fields of the message between two places; WireError where it cannot be read."""
    at = start
    while at < end:
        tag = data[at]
        at += 1
        if tag & 0x80:
            tag, at = _read_varint(data, at - 1, end)
        number, kind = tag >> 3, tag & 7
        if kind == BYTES:
            # Nearly every length has one byte or two.
            length = data[at] if at < end else 0x80
            at += 1
            if length & 0x80:
                length, at = _read_varint(data, at - 1, end)
            after = at + length
        elif kind == VARINT:
            value, at = _read_varint(data, at, end)
            if not number:
                raise WireError("a field of number 0")
            yield number, VARINT, value, at
            continue
        elif kind in _FIXED_BYTES:
            after = at + _FIXED_BYTES[kind]
        else:
            raise WireError(f"field {number} has the wire type {kind}")
        if after > end or not number:
            raise WireError(f"field {number} ends {after - end} bytes after its message")
        yield number, kind, at, after
        at = after


def _read_varint(data: bytes, at: int, end: int) -> tuple[int, int]:
    value = shift = 0
    for place in range(at, min(end, at + _MOST_VARINT_BYTES)):
        byte = data[place]
        value |= (byte & 0x7F) << shift
        if not byte & 0x80:
            return value & _WHOLE_64, place + 1
        shift += 7
    raise WireError(f"a number at byte {at} that does not end")


def text(data: bytes, field: Field, name: str) -> str:
    """A string field; WireError when it is none or not UTF-8."""
    _, kind, start, end = field
    if kind != BYTES:
        raise WireError(f"{name} is not a string")
    try:
        return data[start:end].decode()
    except UnicodeDecodeError as error:
        raise WireError(f"{name} is not UTF-8") from error


def span(field: Field, name: str) -> tuple[int, int]:
    """Where a message or bytes field lies; WireError when it is of another kind."""
    _, kind, start, end = field
    if kind != BYTES:
        raise WireError(f"{name} has the wire type {kind}, expected {BYTES}")
    return start, end


def signed(value: int) -> int:
    """A varint as int64."""
    return value - (1 << 64) if value & _SIGN_64 else value


def double(data: bytes, field: Field, name: str) -> float:
    """A double field; WireError when it is of another kind."""
    _, kind, start, _ = field
    if kind != FIXED64:
        raise WireError(f"{name} has the wire type {kind}, expected {FIXED64}")
    (value,) = _DOUBLE.unpack_from(data, start)
    return float(value)


def varints(data: bytes, field: Field, name: str) -> npt.NDArray[np.uint64]:
    """The values of a repeated varint field, packed or one by one: uint64 [num_values]; signed ones as their bits."""
    _, kind, start, end = field
    if kind == VARINT:
        return np.array([start], np.uint64)
    if kind != BYTES:
        raise WireError(f"{name} has the wire type {kind}, expected {BYTES} or {VARINT}")
    raw = np.frombuffer(data, np.uint8, end - start, start)
    if not raw.size:
        return np.empty(0, np.uint64)
    # The last byte of a number has its highest bit clear.
    lasts = np.flatnonzero(raw < 0x80)
    if not lasts.size or lasts[-1] != raw.size - 1:
        raise WireError(f"{name} ends within a number")
    if lasts.size == raw.size:
        return raw.astype(np.uint64)
    firsts = np.concatenate(([0], lasts[:-1] + 1))
    lengths = lasts - firsts + 1
    if lengths.max() > _MOST_VARINT_BYTES:
        raise WireError(f"{name} holds a number that does not end")
    shifts = 7 * (np.arange(raw.size) - np.repeat(firsts, lengths))
    # Of a tenth byte one bit is left: shifted beyond 64, the rest falls off as the format says.
    parts = (raw & 0x7F).astype(np.uint64) << shifts.astype(np.uint64)
    return np.bitwise_or.reduceat(parts, firsts)


def fixed(data: bytes, field: Field, dtype: npt.DTypeLike, name: str) -> npt.NDArray[np.generic]:
    """The values of a repeated float or double field, packed or one by one: little-endian [num_values]."""
    _, kind, start, end = field
    size = np.dtype(dtype).itemsize
    if kind != BYTES and _FIXED_BYTES.get(kind) != size:
        raise WireError(f"{name} has the wire type {kind}, expected {BYTES}")
    if (end - start) % size:
        raise WireError(f"{name} has {end - start} bytes, which is no multiple of {size}")
    return np.frombuffer(data, dtype, (end - start) // size, start)


def put_varint(value: int) -> bytes:
    """The bytes of a number from 0 to 2**64 - 1."""
    if value < 0x80:  # seven bits to a byte
        return bytes((value,))
    parts = bytearray()
    while value >= 0x80:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    parts.append(value)
    return bytes(parts)


def put_bytes(number: int, content: bytes) -> bytes:
    """A field of bytes, of a text's UTF-8 or of a message."""
    length = len(content)
    if length < 0x80 and number < 0x10:
        return bytes((number << 3 | BYTES, length)) + content
    return put_head(number, length) + content


def put_head(number: int, num_bytes: int) -> bytes:
    """What stands before the content of such a field."""
    return put_varint(number << 3 | BYTES) + put_varint(num_bytes)


def put_text(number: int, content: str) -> bytes:
    """A string field; nothing for an empty one, as it is what a reader assumes."""
    return put_bytes(number, content.encode()) if content else b""


def put_texts(number: int, contents: Iterable[str]) -> bytes:
    """A repeated string field."""
    return b"".join(put_bytes(number, content.encode()) for content in contents)


def put_number(number: int, value: int) -> bytes:
    """A field of a whole number or a bool; nothing for 0, as it is what a reader assumes."""
    return put_varint(number << 3) + put_varint(value & _WHOLE_64) if value else b""


def put_packed(number: int, values: Sequence[int]) -> bytes:
    """A repeated field of whole numbers."""
    return put_bytes(number, b"".join(put_varint(value & _WHOLE_64) for value in values)) if values else b""
