"""Members on one host: all see each other's memory, and each wakes the others when it has written.

Names of blocks are agreed on beforehand and removed as soon as all have attached, so that a later kill leaves nothing
behind. Nothing here is bound to a process: a member that is gone is one that does not arrive, and `interrupted` is how
the others learn it.
"""

import os
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from shoal.base import SharedBlock
from shoal.train.base import PeerLostError, Reduce
from shoal.train.group.stretches import stretch
from shoal.train.group.waiting import raise_to, wait_for

# Two cache lines: processors fetch them in pairs.
_LINE_BYTES = 128
# 64-bit words of a member's line: its counter (2), its note, and what it still has to say in either half of the area.
_WORDS = _LINE_BYTES // 8
_NOTE, _LEFT = 2, 3
# Two of them fit into a second-level cache of 1 MB.
_PIECE_BYTES = 512 << 10
_LEAST_ROOM_BYTES = 4096
# Half of what a member may take to notice that it is told of a death.
_POLL_S = 0.0025
# Looking on saves the way through the kernel where the others are nearly there.
_SPIN_S = 0.00005
_NAP_S = 0.0005
_NOTHING = np.zeros(0, np.uint8)


class SharedGroup:
    """A member of a group whose members share this host's memory. Single-threaded."""

    def __init__(self, name: str, rank: int, size: int, interrupted: Callable[[], bool]) -> None:
        self.rank = rank
        self.size = size
        self._name = name
        self._interrupted = interrupted
        self._spin_s = _SPIN_S if size <= _num_processors() else 0.0
        self._round = 0
        self._num_opened = 0
        self._turn = 0
        self._blocks: list[SharedBlock] = []
        # Each member's part of a half is a multiple of a cache line.
        self._room_bytes = max(_PIECE_BYTES // size // 64 * 64, _LEAST_ROOM_BYTES)
        self._control: NDArray[np.uint8] = _NOTHING
        self._words: NDArray[np.int64] = _NOTHING.view(np.int64)
        self._halves_of: list[NDArray[np.uint8]] = []
        self._meet_first()
        self._memories: list[torch.Tensor] = []
        self._result = torch.zeros(0, dtype=torch.uint8)

    def memory(self, num_bytes: int) -> torch.Tensor:
        """This member's block; the first call for a size waits for all, as all must attach."""
        if not self._memories or len(self._memories[0]) != num_bytes:
            self._memories = self._open(num_bytes, range(self.size))
        return self._memories[self.rank]

    def combine(self, num_bytes: int, reduce: Reduce, note: int = 0) -> tuple[torch.Tensor, list[int]]:
        """Each member reduces its stretch of the bytes, out of all memories into one result that all then use."""
        if len(self._result) != num_bytes:
            (self._result,) = self._open(num_bytes, [0])
        self._words[self.rank, _NOTE] = note
        self._meet()
        notes: list[int] = self._words[:, _NOTE].tolist()
        reduce(self._memories, self._result, *stretch(num_bytes, self.rank, self.size))
        # Nobody comes through before all have read the memories and the notes, so both may be written again.
        self._meet()
        return self._result, notes

    def share(self, data: bytes) -> list[bytes]:
        """In pieces, as many as the longest needs."""
        parts = [bytearray() for _ in range(self.size)]
        for sent, half in self._halves(self._room_bytes):
            rooms = half.reshape(self.size, self._room_bytes)
            piece = np.frombuffer(data, np.uint8)[sent : sent + self._room_bytes]
            rooms[self.rank, : len(piece)] = piece
            left = self._tell(max(len(data) - sent, 0))
            for part, room, num_bytes in zip(parts, rooms, left, strict=True):
                part += room[: min(num_bytes, self._room_bytes)].tobytes()
            if max(left) <= self._room_bytes:
                break
        return [bytes(part) for part in parts]

    def broadcast(self, data: torch.Tensor | None, root: int) -> torch.Tensor:
        """In pieces that stay in the caches: the root writes one while the others read the one before."""
        received = data
        for sent, half in self._halves(len(self._halves_of[0])):
            left = 0
            if self.rank == root:
                assert data is not None
                left = len(data) - sent
                half[: min(left, len(half))] = data[sent : sent + len(half)].numpy()
            left = self._tell(left)[root]
            if received is None:
                received = torch.empty(left, dtype=torch.uint8)
            if self.rank != root:
                piece = received[sent : sent + len(half)].numpy()
                piece[:] = half[: len(piece)]
            if left <= len(half):
                break
        assert received is not None
        return received

    def close(self) -> None:
        """Let go of the mappings; tensors that still look into them keep them until they go themselves."""
        self._memories = []
        self._result = torch.zeros(0, dtype=torch.uint8)
        self._control, self._words, self._halves_of = _NOTHING, _NOTHING.view(np.int64), []
        while self._blocks:
            self._blocks.pop().close()

    def _meet_first(self) -> None:
        """Make or find the block through which all else is agreed on, and wait until everybody has it."""
        name = f"{self._name}control"
        lines = self.size * _LINE_BYTES
        half = self._room_bytes * self.size
        block = SharedBlock.create(lines + 2 * half, name=name) if self.rank == 0 else self._find_first(name)
        self._blocks.append(block)
        self._control = block.view(np.uint8, (lines,))
        self._words = block.view(np.int64, (self.size, _WORDS))
        self._halves_of = [block.view(np.uint8, (half,), lines + turn * half) for turn in range(2)]
        try:
            self._meet()
        finally:
            if self.rank == 0:
                block.unlink()

    def _find_first(self, name: str) -> SharedBlock:
        while (block := SharedBlock.find(name)) is None:
            self._heed()
            time.sleep(_NAP_S)
        return block

    def _open(self, num_bytes: int, owners: Sequence[int]) -> list[torch.Tensor]:
        """A block of each owner, uint8 [num_bytes]; all members call it alike."""
        self._num_opened += 1
        names = {owner: f"{self._name}{self._num_opened}-{owner}" for owner in owners}
        own = SharedBlock.create(num_bytes, name=names[self.rank]) if self.rank in names else None
        try:
            self._meet()
            blocks = [own if owner == self.rank else SharedBlock.find(name) for owner, name in names.items()]
            found = [block for block in blocks if block is not None]
            if len(found) < len(blocks):
                raise PeerLostError("a member's memory is gone")
            self._meet()
        finally:
            if own is not None:
                own.unlink()
        self._blocks += found
        return [torch.from_numpy(block.view(np.uint8, (num_bytes,))) for block in found]

    def _halves(self, step: int) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """(bytes sent before, the half to use) for one piece after another.

        Two halves in turn: whoever writes a half again has met all others since they read it.
        """
        sent = 0
        while True:
            self._turn = 1 - self._turn
            yield sent, self._halves_of[self._turn]
            sent += step

    def _tell(self, num_left: int) -> list[int]:
        """Wait until all have written their pieces; how many bytes each had left before."""
        self._words[self.rank, _LEFT + self._turn] = num_left
        self._meet()
        left: list[int] = self._words[:, _LEFT + self._turn].tolist()
        return left

    def _meet(self) -> None:
        """Wait until all have come here as often as this member."""
        self._round += 1
        raise_to(self._control, self.rank * _LINE_BYTES, self._round)
        while not wait_for(self._control, _LINE_BYTES, self.size, self._round, spin_s=self._spin_s, timeout_s=_POLL_S):
            self._heed()

    def _heed(self) -> None:
        if self._interrupted():
            raise PeerLostError(f"member {self.rank} of {self.size} was told that another is gone")


def _num_processors() -> int:
    # What this process may use, which a container makes fewer; not every system can say.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
