"""The channel between machines: frames over TCP, and the tensors of a batch right behind theirs.

    4 bytes   length of the frame, little-endian
    8 bytes   length of the tensors; 0 for all frames but `Work` and `Done`
    ...       the frame, MessagePack, as on one machine (`channel`)
    ...       the tensors, laid out as the frame's slots say

Nothing is announced that is not checked before memory is taken for it: the slots must fill the announced length without
a gap, and both lengths have a bound. Tensors are written from where they lie and read into where they stay.
"""

import itertools
import math
import socket
import struct
from collections import deque
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec
import numpy as np

from shoal.base import CorruptError, StorageFullError
from shoal.serve.links.channel import ALIGNMENT, Done, Frame, Slot, Work, lay_out
from shoal.serve.wire.tensors import Array

MOST_FRAME_BYTES = 4 << 20
MOST_TENSOR_BYTES = 1 << 30
_HEADER = struct.Struct("<IQ")
_SMALLEST_MEMORY = 64 << 10
# Fewer than any system's limit on the pieces of one write.
_PIECES_AT_ONCE = 512
# Booleans, numbers and texts: nothing that would be an address in another process.
_KINDS = "biufcU"
_ZEROS = memoryview(bytes(ALIGNMENT))

_ENCODER = msgspec.msgpack.Encoder()
_DECODER: msgspec.msgpack.Decoder[Frame] = msgspec.msgpack.Decoder(Frame)


class InlineTensors:
    """Tensors on their way out; has the interface of `OutgoingTensors`. They must not change until they are sent."""

    def __init__(self) -> None:
        self._pieces: list[memoryview] = []

    def write(self, tensors: Sequence[Sequence[Array]]) -> tuple[str, list[Slot]]:
        """Keep tensors for `take`, each given as parts that are joined along their first dimension.

        Returns:
            ("", where each tensor will lie).

        Raises:
            StorageFullError: they are too large for one batch.
        """
        slots, size_bytes = lay_out(tensors)
        if size_bytes > MOST_TENSOR_BYTES:
            raise StorageFullError(
                f"cannot send {size_bytes} bytes of tensors in one batch, expected at most {MOST_TENSOR_BYTES}",
                next_step="send fewer rows at once",
            )
        self._pieces = _gather(slots, tensors)
        return "", slots

    def take(self) -> list[memoryview]:
        """What was written last, once; to be sent behind its frame."""
        pieces, self._pieces = self._pieces, []
        return pieces

    def close(self) -> None:
        """Let the tensors go."""
        self._pieces = []


def encode_inline(frame: Frame, tensors: Sequence[memoryview] = ()) -> list[memoryview]:
    """The pieces to be written one after the other for a frame and its tensors."""
    body = _ENCODER.encode(frame)
    header = _HEADER.pack(len(body), sum(piece.nbytes for piece in tensors))
    return [memoryview(header + body), *tensors]


class Arrival(NamedTuple):
    """A frame with the tensors that came with it, valid until the next frame that brings some."""

    frame: Frame
    tensors: list[Array]


class InlineReader:
    """Turns the bytes of one connection into frames and tensors, however they were cut.

    Receive into `room()`, then tell how much it was. The memory for tensors grows to the largest batch so far.
    """

    def __init__(self) -> None:
        self._header = bytearray(_HEADER.size)
        self._body = bytearray()
        self._memory = memoryview(b"")
        self._num_tensor_bytes = 0
        self._frame: Frame | None = None
        self._room = memoryview(self._header)

    def room(self) -> memoryview:
        """Where the next bytes belong; never empty, and never more than what is known to come."""
        return self._room

    def took(self, num_bytes: int) -> Arrival | None:
        """So many bytes came into `room()`; the frame that they complete, if they do.

        Raises:
            CorruptError: what came is no frame of ours; the connection is of no use any more.
        """
        self._room = self._room[num_bytes:]
        if len(self._room):
            return None
        if self._frame is not None:
            return self._arrived(self._frame)
        if self._body:
            return self._read_body()
        num_body_bytes, self._num_tensor_bytes = _HEADER.unpack(self._header)
        if not 0 < num_body_bytes <= MOST_FRAME_BYTES or self._num_tensor_bytes > MOST_TENSOR_BYTES:
            raise _damaged(f"a frame of {num_body_bytes} bytes with {self._num_tensor_bytes} bytes of tensors")
        self._body = bytearray(num_body_bytes)
        self._room = memoryview(self._body)
        return None

    def _read_body(self) -> Arrival | None:
        try:
            frame = _DECODER.decode(self._body)
        except msgspec.DecodeError as error:
            raise _damaged(f"a frame that cannot be read ({error})") from error
        needed = _size_of(frame.slots) if isinstance(frame, (Work, Done)) else 0
        if needed != self._num_tensor_bytes:
            raise _damaged(f"{self._num_tensor_bytes} bytes of tensors for slots of {needed}")
        if not needed:
            return self._arrived(frame)
        self._frame = frame
        if len(self._memory) < needed:
            self._memory = _aligned_memory(max(_SMALLEST_MEMORY, 1 << (needed - 1).bit_length()))
        self._room = self._memory[:needed]
        return None

    def _arrived(self, frame: Frame) -> Arrival:
        self._frame, self._body = None, bytearray()
        self._room = memoryview(self._header)
        slots = frame.slots if isinstance(frame, (Work, Done)) else ()
        return Arrival(frame, [np.ndarray(slot.shape, slot.dtype, self._memory, slot.offset) for slot in slots])


class Outbox:
    """Pieces that wait to be written to a socket that does not block. Not for several threads at once."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._pieces: deque[memoryview] = deque()
        self.num_bytes = 0

    def put(self, pieces: Iterable[memoryview]) -> None:
        """Add pieces; nothing is written yet."""
        for piece in pieces:
            if piece.nbytes:
                self._pieces.append(piece)
                self.num_bytes += piece.nbytes

    def flush(self) -> bool:
        """Write as much as the system takes now; whether that was all.

        Raises:
            OSError: the other end is gone.
        """
        while self._pieces:
            try:
                sent = self._connection.sendmsg(list(itertools.islice(self._pieces, _PIECES_AT_ONCE)))
            except BlockingIOError:
                return False
            self._drop(sent)
        return True

    def clear(self) -> None:
        """Forget what waits."""
        self._pieces.clear()
        self.num_bytes = 0

    def _drop(self, num_bytes: int) -> None:
        self.num_bytes -= num_bytes
        while num_bytes:
            first = self._pieces.popleft()
            if first.nbytes > num_bytes:
                # The rest of it goes first the next time.
                self._pieces.appendleft(first[num_bytes:])
                return
            num_bytes -= first.nbytes


def _gather(slots: Sequence[Slot], tensors: Sequence[Sequence[Array]]) -> list[memoryview]:
    pieces: list[memoryview] = []
    for slot, parts in zip(slots, tensors, strict=True):
        num_bytes = 0
        for part in parts:
            # A copy only of what does not lie in one piece, or is a text of another width.
            flat = np.ascontiguousarray(part, np.dtype(slot.dtype)).reshape(-1).view(np.uint8)
            pieces.append(flat.data)
            num_bytes += flat.nbytes
        if gap := -num_bytes % ALIGNMENT:
            pieces.append(_ZEROS[:gap])
    return pieces


def _size_of(slots: Sequence[Slot]) -> int:
    """The bytes that these slots take; CorruptError unless they follow one another as `lay_out` puts them."""
    size_bytes = 0
    for slot in slots:
        try:
            dtype = np.dtype(slot.dtype)
        except (TypeError, ValueError) as error:
            raise _damaged(f"a tensor of the type {slot.dtype!r:.40}") from error
        if dtype.kind not in _KINDS or slot.offset != size_bytes or any(size < 0 for size in slot.shape):
            raise _damaged(f"a tensor of {slot.dtype!r:.40} and shape {slot.shape!r:.80} at byte {slot.offset}")
        size_bytes += -(-math.prod(slot.shape) * dtype.itemsize // ALIGNMENT) * ALIGNMENT
    return size_bytes


def _aligned_memory(size_bytes: int) -> memoryview:
    raw = np.empty(size_bytes + ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % ALIGNMENT
    return raw.data[start : start + size_bytes]


def _damaged(found: str) -> CorruptError:
    return CorruptError(
        f"the connection between a front and a replica brought {found}",
        next_step="run the same version of shoal on all machines; look at the network if they do",
    )
