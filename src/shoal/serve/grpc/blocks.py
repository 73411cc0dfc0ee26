"""Header blocks, put together from the frames that they come in."""

from typing import NamedTuple

from shoal.serve.grpc import frames
from shoal.serve.grpc.frames import BrokenError, Code
from shoal.serve.grpc.head import MOST_HEADER_BYTES

# A header block may come in pieces, of which an empty one costs the client next to nothing.
_MOST_PIECES = 32


class Block(NamedTuple):
    """A whole one: the stream that it is for, the flags of its first frame, and its bytes."""

    stream: int
    flags: int
    data: bytes


class BlockReader:
    """Joins HEADERS and CONTINUATION, one block at a time. `stream` is that of a block that is not whole, or 0."""

    def __init__(self) -> None:
        self.stream = 0
        self._flags = 0
        self._pieces: list[bytes] = []

    def begin(self, flags: int, stream: int, payload: bytes) -> Block | None:
        """Take HEADERS; the block where that is all of it. BrokenError where it is malformed."""
        if not stream % 2:
            raise BrokenError(Code.PROTOCOL_ERROR, f"HEADERS on stream {stream}")
        piece = frames.unpad(flags, payload)
        if flags & frames.PRIORITIZED:
            if len(piece) < 5:  # a stream and a weight, which mean nothing any more
                raise BrokenError(Code.FRAME_SIZE_ERROR, "HEADERS that end within their priority")
            piece = piece[5:]
        if flags & frames.END_HEADERS:
            return Block(stream, flags, piece)
        self.stream, self._flags, self._pieces = stream, flags, [piece]
        return None

    def go_on(self, flags: int, stream: int, payload: bytes) -> Block | None:
        """Take CONTINUATION; the block where that completes it. BrokenError where it is malformed or has no end."""
        if not self.stream or stream != self.stream:
            raise BrokenError(Code.PROTOCOL_ERROR, f"CONTINUATION of nothing on stream {stream}")
        self._pieces.append(payload)
        if len(self._pieces) > _MOST_PIECES or sum(map(len, self._pieces)) > MOST_HEADER_BYTES:
            raise BrokenError(Code.ENHANCE_YOUR_CALM, "a header block without end")
        if not flags & frames.END_HEADERS:
            return None
        self.stream = 0
        return Block(stream, self._flags, b"".join(self._pieces))
