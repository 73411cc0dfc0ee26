"""What a replica on another machine and its supervisor tell each other about the files of a model, as MessagePack.

Each message has its length before it, 4 bytes little-endian. The content of a file follows its `Content` as it is.
"""

import socket
import struct
from typing import TypeAlias, TypeVar

import msgspec

from shoal.base import CorruptError

_LENGTH = struct.Struct("<I")
_MOST_BYTES = 4 << 20


class Ask(msgspec.Struct, frozen=True, tag=True):
    """To the supervisor: which files does this source of a plan have?"""

    source: str


class Get(msgspec.Struct, frozen=True, tag=True):
    """To the supervisor: send the file with this digest, one of those that it has just told of."""

    digest: str


class Part(msgspec.Struct, frozen=True):
    """One file; `name` is relative, with slashes."""

    name: str
    size_bytes: int
    digest: str


class Parts(msgspec.Struct, frozen=True, tag=True):
    """From the supervisor: the files of a source, which is a folder, or one file and what lies beside it."""

    parts: list[Part]
    is_folder: bool


class Absent(msgspec.Struct, frozen=True, tag=True):
    """From the supervisor: there is no such thing, and why."""

    message: str
    next_step: str


class Content(msgspec.Struct, frozen=True, tag=True):
    """From the supervisor: so many bytes of a file follow."""

    size_bytes: int


Question: TypeAlias = Ask | Get
Reply: TypeAlias = Parts | Absent | Content
T = TypeVar("T")

QUESTIONS: msgspec.msgpack.Decoder[Question] = msgspec.msgpack.Decoder(Question)
REPLIES: msgspec.msgpack.Decoder[Reply] = msgspec.msgpack.Decoder(Reply)


def tell(connection: socket.socket, message: Question | Reply) -> None:
    """Send one message; OSError when the other end is gone."""
    body = msgspec.msgpack.encode(message)
    connection.sendall(_LENGTH.pack(len(body)) + body)


def hear(connection: socket.socket, kind: msgspec.msgpack.Decoder[T]) -> T | None:
    """The next message; None when the other end is gone.

    Raises:
        CorruptError: what came is no message of this kind.
        OSError: the connection broke.
    """
    length = receive_exactly(connection, _LENGTH.size)
    if length is None:
        return None
    num_bytes = _LENGTH.unpack(length)[0]
    if num_bytes > _MOST_BYTES:
        raise _damaged(f"a message of {num_bytes} bytes")
    body = receive_exactly(connection, num_bytes)
    if body is None:
        return None
    try:
        return kind.decode(body)
    except msgspec.DecodeError as error:
        raise _damaged(f"a message that cannot be read ({error})") from error


def receive_exactly(connection: socket.socket, num_bytes: int) -> bytes | None:
    """So many bytes; None when the other end is gone before."""
    found = bytearray()
    while len(found) < num_bytes:
        piece = connection.recv(num_bytes - len(found))
        if not piece:
            return None
        found += piece
    return bytes(found)


def _damaged(found: str) -> CorruptError:
    return CorruptError(
        f"the connection between a replica and its supervisor brought {found}",
        next_step="run the same version of shoal on all machines; look at the network if they do",
    )
