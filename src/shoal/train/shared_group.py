"""Members on one machine that hand each other bytes through shared memory, and wait for each other over gloo.

Sending through loopback sockets copies every byte four times and wakes a thread for each piece. Here a member writes
into its own block, all wait once, and everyone reads.
"""

from collections.abc import Sequence

import numpy as np
import torch
import torch.distributed as dist

from shoal.base import SharedBlock
from shoal.train.base import PeerLostError

# Longer than any path to a block: the names are exchanged as tensors of one size.
_NAME_BYTES = 512


class SharedGroup:
    """A member of a group that torch.distributed has connected in this process."""

    def __init__(self, rank: int, size: int) -> None:
        self.rank = rank
        self.size = size
        self._slots: dict[int, list[torch.Tensor]] = {}
        self._turn = 0

    def exchange(self, mine: torch.Tensor, everyone: Sequence[torch.Tensor]) -> None:
        """Every member's bytes to every member."""
        try:
            slots = self._slots.get(len(mine)) or self._open(len(mine))
            # Two slots in turn: who writes a slot again has waited since for all that still read it.
            self._turn = 1 - self._turn
            slots[self.rank][self._turn].copy_(mine)
            dist.barrier()
        except RuntimeError as error:
            # gloo has no error type of its own; between members that all make the same calls only a death raises.
            raise PeerLostError(str(error)) from None
        for target, slot in zip(everyone, slots, strict=True):
            target.copy_(slot[self._turn])

    def close(self) -> None:
        """Disconnect; the memory goes with the process."""
        dist.destroy_process_group()

    def _open(self, num_bytes: int) -> list[torch.Tensor]:
        """Two slots of each member, uint8 [2, num_bytes], in rank order."""
        own = SharedBlock.create(2 * num_bytes)
        name = torch.from_numpy(np.frombuffer(own.name.encode().ljust(_NAME_BYTES), np.uint8).copy())
        names = [torch.zeros_like(name) for _ in range(self.size)]
        dist.all_gather(names, name)
        blocks = [SharedBlock.attach(found.numpy().tobytes().decode().rstrip()) for found in names]
        # Once all are attached the names are needed no more, and a later kill leaves nothing behind.
        dist.barrier()
        own.unlink()
        slots = [torch.from_numpy(block.view(np.uint8, (2, num_bytes))) for block in blocks]
        self._slots[num_bytes] = slots
        return slots
