"""Messages as bytes on a stream socket: one byte of kind, eight of length, the body.

Both ends are processes of one tree on one machine and run the same interpreter. Works on plain file descriptors, so
that a child needs no `socket` module to talk.
"""

import os
import threading
from typing import Any, TypeAlias

Message: TypeAlias = Any
"""JSON-like values that msgspec encodes (a tuple arrives as a list), or bytes of any size; never None."""

MESSAGE = 1  # body: MessagePack
RAW = 2  # body: the message itself, which is bytes
FAILURE = 3  # body: marshal, as it is written by a child that can count on nothing any more
BOOT = 4  # body: marshal, as importing msgspec would double the time that an interpreter takes to start

_HEADER_BYTES = 9
# A larger read would allocate for bytes that are still to come; a smaller one costs a system call per piece.
_READ_BYTES = 1 << 20


def write_frame(descriptor: int, kind: int, body: bytes | bytearray | memoryview) -> None:
    """Write one whole frame, however long it takes; callers take turns by a lock of their own.

    Raises:
        OSError: the other end is closed.
    """
    view = memoryview(body).cast("B")
    header = memoryview(kind.to_bytes(1, "little") + view.nbytes.to_bytes(8, "little"))
    written = os.writev(descriptor, [header, view])
    while written < _HEADER_BYTES:
        written += os.write(descriptor, header[written:])
    written -= _HEADER_BYTES
    while written < view.nbytes:
        written += os.write(descriptor, view[written:])


def read_frame(descriptor: int) -> tuple[int, bytes] | None:
    """The next frame's kind and body; None when the other end is closed or died, even in the middle of a frame."""
    header = _read_exactly(descriptor, _HEADER_BYTES)
    if header is None:
        return None
    body = _read_exactly(descriptor, int.from_bytes(header[1:], "little"))
    return None if body is None else (header[0], body)


class Channel:
    """A child's end of the socket. Threads take turns to write; one thread reads."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._writing = threading.Lock()

    def read(self) -> tuple[int, bytes] | None:
        """The next frame; None when the supervisor is gone."""
        return read_frame(self.descriptor)

    def write(self, kind: int, body: bytes | bytearray | memoryview) -> None:
        """Write one whole frame; OSError when the supervisor is gone."""
        with self._writing:
            write_frame(self.descriptor, kind, body)


def _read_exactly(descriptor: int, num_bytes: int) -> bytes | None:
    parts: list[bytes] = []
    while num_bytes:
        try:
            part = os.read(descriptor, min(num_bytes, _READ_BYTES))
        except ConnectionError:
            # Linux says so when the other end died with our messages unread; what it wrote before has been read by now.
            return None
        if not part:
            return None
        parts.append(part)
        num_bytes -= len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def encode_message(message: Message) -> tuple[int, bytes | bytearray | memoryview]:
    """The kind and body of a frame that carries `message`; bytes go as they are, without a copy.

    Raises:
        InputError: the message holds something that msgspec cannot encode.
    """
    if isinstance(message, bytes | bytearray):
        return RAW, message
    if isinstance(message, memoryview):
        return RAW, message if message.c_contiguous and message.nbytes else message.tobytes()
    import msgspec

    try:
        if message is not None:
            return MESSAGE, msgspec.msgpack.encode(message)
        reason = "None means that there is no message"
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        reason = str(error)
    from shoal.base import InputError

    raise InputError(
        f"cannot send a message of type {type(message).__name__}: {reason}",
        next_step="send dicts, lists, strings, numbers and booleans, or bytes that you have encoded yourself",
    )


def decode_message(kind: int, body: bytes) -> Message:
    """The message that `encode_message` turned into this frame."""
    if kind == RAW:
        return body
    import msgspec

    return msgspec.msgpack.decode(body)
