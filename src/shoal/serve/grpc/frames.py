"""HTTP/2 frames (RFC 9113): bytes to frames, frames to bytes, and the errors that end a stream or a connection."""

import struct
from collections.abc import Iterator
from enum import IntEnum
from typing import Final, TypeAlias

DATA: Final = 0x0
HEADERS: Final = 0x1
PRIORITY: Final = 0x2
RST_STREAM: Final = 0x3
SETTINGS: Final = 0x4
PUSH_PROMISE: Final = 0x5
PING: Final = 0x6
GOAWAY: Final = 0x7
WINDOW_UPDATE: Final = 0x8
CONTINUATION: Final = 0x9

# Flags; what a bit means depends on the kind of frame.
ACK: Final = 0x1
END_STREAM: Final = 0x1
END_HEADERS: Final = 0x4
PADDED: Final = 0x8
PRIORITIZED: Final = 0x20

# Settings.
HEADER_TABLE_SIZE: Final = 0x1
ENABLE_PUSH: Final = 0x2
MAX_CONCURRENT_STREAMS: Final = 0x3
INITIAL_WINDOW_SIZE: Final = 0x4
MAX_FRAME_SIZE: Final = 0x5
MAX_HEADER_LIST_SIZE: Final = 0x6

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEAD_BYTES: Final = 9
SMALLEST_MAX_FRAME: Final = 16_384
LARGEST_MAX_FRAME: Final = (1 << 24) - 1
DEFAULT_WINDOW: Final = 65_535
LARGEST_WINDOW: Final = (1 << 31) - 1

# A length of 24 bits is read as 16 and 8.
_HEAD = struct.Struct(">HBBBI")
_pack_head = _HEAD.pack
_NUMBER = struct.Struct(">I")
_SETTING = struct.Struct(">HI")
_GOAWAY = struct.Struct(">II")

Frame: TypeAlias = tuple[int, int, int, bytes]
"""(kind, flags, stream, payload)"""


class Code(IntEnum):
    """Why a stream or a connection ends, as RFC 9113 numbers it."""

    NO_ERROR = 0x0
    PROTOCOL_ERROR = 0x1
    INTERNAL_ERROR = 0x2
    FLOW_CONTROL_ERROR = 0x3
    SETTINGS_TIMEOUT = 0x4
    STREAM_CLOSED = 0x5
    FRAME_SIZE_ERROR = 0x6
    REFUSED_STREAM = 0x7
    CANCEL = 0x8
    COMPRESSION_ERROR = 0x9
    ENHANCE_YOUR_CALM = 0xB


class BrokenError(Exception):
    """The connection cannot be used any more; becomes a GOAWAY."""

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class BrokenStreamError(Exception):
    """One stream cannot be used any more; becomes an RST_STREAM."""

    def __init__(self, stream: int, code: Code) -> None:
        super().__init__(f"stream {stream}: {code.name}")
        self.stream = stream
        self.code = code


class FrameReader:
    """Turns the bytes of one connection into frames, however they were cut; the preface comes first.

    A frame is kept until it is whole, so `max_frame_bytes` bounds what is kept.
    """

    def __init__(self, *, max_frame_bytes: int) -> None:
        self._max_frame_bytes = max_frame_bytes
        self._rest = b""
        self._is_preface_due = True

    @property
    def is_inside(self) -> bool:
        """Whether something has begun that is not whole."""
        return bool(self._rest)

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Take the next bytes and yield the frames that are whole.

        Raises:
            BrokenError: the client speaks something else, or sends a longer frame than it may.
        """
        if self._rest:
            data = self._rest + data
            self._rest = b""
        start = 0
        if self._is_preface_due:
            if not PREFACE.startswith(data[: len(PREFACE)]):
                raise BrokenError(Code.PROTOCOL_ERROR, "the connection does not begin as HTTP/2 does")
            if len(data) < len(PREFACE):
                self._rest = data
                return
            self._is_preface_due = False
            start = len(PREFACE)
        end = len(data)
        while end - start >= HEAD_BYTES:
            high, low, kind, flags, stream = _HEAD.unpack_from(data, start)
            length = high << 8 | low
            if length > self._max_frame_bytes:
                raise BrokenError(
                    Code.FRAME_SIZE_ERROR, f"a frame of {length} bytes, at most {self._max_frame_bytes} are taken"
                )
            after = start + HEAD_BYTES + length
            if after > end:
                break
            # The highest bit has no meaning and is to be ignored.
            yield kind, flags, stream & LARGEST_WINDOW, data[start + HEAD_BYTES : after]
            start = after
        self._rest = data[start:]


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """The bytes of a frame."""
    length = len(payload)
    return _pack_head(length >> 8, length & 0xFF, kind, flags, stream) + payload


def settings(values: dict[int, int]) -> bytes:
    """A SETTINGS frame."""
    return frame(SETTINGS, 0, 0, b"".join(_SETTING.pack(name, value) for name, value in values.items()))


def window_update(stream: int, more: int) -> bytes:
    """Leave to send so many more bytes."""
    return frame(WINDOW_UPDATE, 0, stream, _NUMBER.pack(more))


def rst_stream(stream: int, code: Code) -> bytes:
    """The end of one stream."""
    return frame(RST_STREAM, 0, stream, _NUMBER.pack(code))


def goaway(last_stream: int, code: Code, message: str = "") -> bytes:
    """The end of the connection, or its announcement."""
    return frame(GOAWAY, 0, 0, _GOAWAY.pack(last_stream, code) + message.encode())


def read_settings(payload: bytes) -> list[tuple[int, int]]:
    """The settings of a frame, checked against their limits.

    Raises:
        BrokenError: one is beyond its limits, or the frame is cut.
    """
    if len(payload) % _SETTING.size:
        raise BrokenError(Code.FRAME_SIZE_ERROR, f"SETTINGS of {len(payload)} bytes")
    found: list[tuple[int, int]] = list(_SETTING.iter_unpack(payload))
    for name, value in found:
        if name == ENABLE_PUSH and value > 1:
            raise BrokenError(Code.PROTOCOL_ERROR, f"SETTINGS_ENABLE_PUSH of {value}")
        if name == INITIAL_WINDOW_SIZE and value > LARGEST_WINDOW:
            raise BrokenError(Code.FLOW_CONTROL_ERROR, f"SETTINGS_INITIAL_WINDOW_SIZE of {value}")
        if name == MAX_FRAME_SIZE and not SMALLEST_MAX_FRAME <= value <= LARGEST_MAX_FRAME:
            raise BrokenError(Code.PROTOCOL_ERROR, f"SETTINGS_MAX_FRAME_SIZE of {value}")
    return found


def read_number(payload: bytes, kind: str) -> int:
    """The one number of a RST_STREAM or WINDOW_UPDATE; BrokenError when it is cut."""
    if len(payload) != _NUMBER.size:
        raise BrokenError(Code.FRAME_SIZE_ERROR, f"{kind} of {len(payload)} bytes")
    (value,) = _NUMBER.unpack(payload)
    return int(value)


def unpad(flags: int, payload: bytes) -> bytes:
    """The payload of a DATA or HEADERS frame without its padding; BrokenError when that is longer than the frame."""
    if not flags & PADDED:
        return payload
    if not payload or payload[0] >= len(payload):
        raise BrokenError(Code.PROTOCOL_ERROR, "a padding longer than its frame")
    return payload[1 : len(payload) - payload[0]]
