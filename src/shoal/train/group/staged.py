"""Members that compute on devices and meet in host memory: where two share a GPU, or NCCL is not to be had."""

import torch

from shoal.train.base import Group, Reduce


class StagedGroup:
    """Another group, with memory on a device: what is combined goes through that group's own, once each way."""

    def __init__(self, inner: Group, device: torch.device) -> None:
        self.rank = inner.rank
        self.size = inner.size
        self._inner = inner
        self._device = device
        self._memory = self._result = torch.zeros(0, dtype=torch.uint8, device=device)

    def memory(self, num_bytes: int) -> torch.Tensor:
        """Bytes on the device."""
        if len(self._memory) != num_bytes:
            self._memory = torch.zeros(num_bytes, dtype=torch.uint8, device=self._device)
        return self._memory

    def combine(self, num_bytes: int, reduce: Reduce, note: int = 0) -> tuple[torch.Tensor, list[int]]:
        """As the inner group does, with the same bits."""
        if len(self._result) != num_bytes:
            self._result = torch.zeros(num_bytes, dtype=torch.uint8, device=self._device)
        self._inner.memory(len(self._memory)).copy_(self._memory)
        combined, notes = self._inner.combine(num_bytes, reduce, note)
        self._result.copy_(combined)
        return self._result, notes

    def share(self, data: bytes) -> list[bytes]:
        """As the inner group does."""
        return self._inner.share(data)

    def broadcast(self, data: torch.Tensor | None, root: int) -> torch.Tensor:
        """As the inner group does: a state is packed in host memory."""
        return self._inner.broadcast(data, root)

    def close(self) -> None:
        """Let go of all memory, and close the inner group."""
        self._memory = self._result = torch.zeros(0, dtype=torch.uint8)
        self._inner.close()
