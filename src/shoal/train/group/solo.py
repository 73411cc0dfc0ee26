"""The group of one, which has nobody to wait for."""

import torch

from shoal.train.base import Reduce


class Solo:
    """What a lone member brings is what all bring together, so nothing is copied and nothing can fail."""

    rank = 0
    size = 1

    def __init__(self, device: torch.device | None = None) -> None:
        """With memory on that device; on the CPU unless given."""
        self._device = device
        self._memory = torch.zeros(0, dtype=torch.uint8)

    def memory(self, num_bytes: int) -> torch.Tensor:
        """Bytes of this process."""
        if len(self._memory) != num_bytes:
            self._memory = torch.zeros(num_bytes, dtype=torch.uint8, device=self._device)
        return self._memory

    def combine(self, num_bytes: int, reduce: Reduce, note: int = 0) -> tuple[torch.Tensor, list[int]]:
        """The memory itself."""
        del reduce
        return self._memory if len(self._memory) == num_bytes else self._memory[:num_bytes], [note]

    def share(self, data: bytes) -> list[bytes]:
        """What was given."""
        return [data]

    def broadcast(self, data: torch.Tensor | None, root: int) -> torch.Tensor:
        """What was given."""
        assert data is not None, root
        return data

    def close(self) -> None:
        """Let go of the memory."""
        self._memory = torch.zeros(0, dtype=torch.uint8)
