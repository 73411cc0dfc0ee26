"""Between the front and one replica: small frames over a unix socket, whole batches in shared memory.

Each side owns the memory it writes and tells its name in the frame; the other side attaches it once and removes the
name at once, so nothing is left behind when either is killed. A side writes again only after the other has answered, so
there is one batch under way per replica and no lock.
"""

import struct
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

import msgspec
import numpy as np

from shoal.base import SharedBlock
from shoal.serve.wire.interface import Interface
from shoal.serve.wire.tensors import Array

_LENGTH = struct.Struct("<I")
# Columns of doubles and wide vector loads both like it.
ALIGNMENT = 64
_SMALLEST_BLOCK = 64 << 10


class Key(NamedTuple):
    """The model and version that a request was routed to; only requests of one key share a batch."""

    model: str
    version: str


class Slot(msgspec.Struct, frozen=True, array_like=True):
    """Where a tensor lies in a block."""

    dtype: str
    shape: tuple[int, ...]
    offset: int


class Load(msgspec.Struct, frozen=True, tag=True):
    """To a replica: load a version, in the background."""

    model: str
    version: str
    path: str


class Unload(msgspec.Struct, frozen=True, tag=True):
    """To a replica: let a version go."""

    model: str
    version: str


class Work(msgspec.Struct, frozen=True, tag=True):
    """To a replica: run a batch; `slots` are the inputs in the interface's order."""

    batch: int
    model: str
    version: str
    block: str
    slots: list[Slot]


class Ping(msgspec.Struct, frozen=True, tag=True):
    """To a replica: say `Pong`."""


class Pong(msgspec.Struct, frozen=True, tag=True):
    """From a replica: it still hears."""


class Hello(msgspec.Struct, frozen=True, tag=True):
    """From a replica, first of all: who it is. A `Loaded` for everything that it has already follows.

    `host` is the address of its machine, the loopback's where that is the front's own.
    """

    rank: int
    pid: int
    host: str = "127.0.0.1"


class Loaded(msgspec.Struct, frozen=True, tag=True):
    """From a replica: a version can take work.

    Attributes:
        path: what was loaded, as asked for.
        interface: what it takes and gives.
        timings: (rows, seconds) of the batches that it was tried with.
        model_kind: what the outputs mean, as the package says; "unknown" for a plain ONNX file.
    """

    model: str
    version: str
    path: str
    interface: Interface
    timings: list[tuple[int, float]]
    model_kind: str


class LoadFailed(msgspec.Struct, frozen=True, tag=True):
    """From a replica: a version cannot be loaded, and why."""

    model: str
    version: str
    message: str
    next_step: str


class Done(msgspec.Struct, frozen=True, tag=True):
    """From a replica: a batch's outputs, and the seconds that the model took."""

    batch: int
    block: str
    slots: list[Slot]
    seconds: float


class Failed(msgspec.Struct, frozen=True, tag=True):
    """From a replica: a batch has no outputs; `blames_input` when the model itself refused what it was given.

    Attributes:
        blames_model: whether the model failed by a mistake of its own; else, without `blames_input`, the replica did.
        next_step: what to do about it.
    """

    batch: int
    message: str
    blames_input: bool
    blames_model: bool = False
    next_step: str = "send it again later"


ToReplica: TypeAlias = Load | Unload | Work | Ping
FromReplica: TypeAlias = Hello | Loaded | LoadFailed | Done | Failed | Pong
Frame: TypeAlias = ToReplica | FromReplica

_ENCODER = msgspec.msgpack.Encoder()
_DECODER: msgspec.msgpack.Decoder[Frame] = msgspec.msgpack.Decoder(Frame)


def encode_frame(frame: Frame) -> bytes:
    """The frame with its length before it."""
    body = _ENCODER.encode(frame)
    return _LENGTH.pack(len(body)) + body


class FrameReader:
    """Turns the bytes of one socket into frames, however they were cut."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[Frame]:
        """Take the next bytes and return the frames that are complete."""
        data = self._rest + data if self._rest else data
        frames: list[Frame] = []
        start = 0
        while len(data) >= start + _LENGTH.size:
            end = start + _LENGTH.size + _LENGTH.unpack_from(data, start)[0]
            # The rest of it comes with the next read.
            if end > len(data):
                break
            frames.append(_DECODER.decode(memoryview(data)[start + _LENGTH.size : end]))
            start = end
        self._rest = data[start:]
        return frames


class OutgoingTensors:
    """The memory that one side writes; it grows to the largest batch so far."""

    def __init__(self) -> None:
        self._block: SharedBlock | None = None

    def write(self, tensors: Sequence[Sequence[Array]]) -> tuple[str, list[Slot]]:
        """Put tensors side by side, each given as parts that are joined along their first dimension.

        Returns:
            (the block's name, where each tensor lies).

        Raises:
            StorageFullError: there is no room for a block of that size.
        """
        slots, size_bytes = lay_out(tensors)
        block = self._block
        if block is None or block.size_bytes < size_bytes:
            self.close()
            block = self._block = SharedBlock.create(_rounded(size_bytes))
        for slot, parts in zip(slots, tensors, strict=True):
            view = block.view(slot.dtype, slot.shape, slot.offset)
            if len(parts) == 1:
                view[...] = parts[0]
            else:
                np.concatenate(parts, out=view)
        return block.name, slots

    def close(self) -> None:
        """Give the memory back; the name too, where the other side never came to remove it."""
        if self._block is not None:
            self._block.unlink()
            self._block.close()
            self._block = None


class IncomingTensors:
    """The memory that the other side writes."""

    def __init__(self) -> None:
        self._block: SharedBlock | None = None

    def read(self, name: str, slots: Sequence[Slot]) -> list[Array]:
        """View the tensors; the views hold until the other side writes again."""
        if self._block is None or self._block.name != name:
            self.close()
            self._block = SharedBlock.attach(name)
            # Both sides have it mapped now: without a name it goes when the last of them does, however that ends.
            SharedBlock.unlink_name(name)
        return [self._block.view(slot.dtype, slot.shape, slot.offset) for slot in slots]

    def close(self) -> None:
        """Let the memory go."""
        if self._block is not None:
            self._block.close()
            self._block = None


def lay_out(tensors: Sequence[Sequence[Array]]) -> tuple[list[Slot], int]:
    """Where tensors lie side by side, and how many bytes they take; each is given as parts that are joined."""
    slots = []
    offset = 0
    for parts in tensors:
        first = parts[0]
        shape: tuple[int, ...] = first.shape
        if len(parts) > 1:
            shape = (sum(len(part) for part in parts), *first.shape[1:])
        # Texts are as wide as the longest of their part.
        dtype = first.dtype if first.dtype.kind != "U" else max((part.dtype for part in parts), key=_width)
        slots.append(Slot(dtype.str, shape, offset))
        size_bytes = dtype.itemsize * _count(shape)
        offset += -(-size_bytes // ALIGNMENT) * ALIGNMENT
    return slots, offset


def _width(dtype: np.dtype[Any]) -> int:
    return dtype.itemsize


def _count(shape: tuple[Any, ...]) -> int:
    count = 1
    for size in shape:
        count *= size
    return count


def _rounded(size_bytes: int) -> int:
    """The next power of two, so that slowly growing batches do not mean a new block each."""
    return max(_SMALLEST_BLOCK, 1 << (size_bytes - 1).bit_length())
