"""Adds up the roots that the members of a group computed, a stretch of bytes at a time, in the brackets of the tree."""

from collections.abc import Sequence

import torch

from shoal.train.layout import Layout
from shoal.train.tree import Node, block, cover, finish

# Where more than two numbers meet in a sum, what is between them stays in a second-level cache.
_CHUNK_BYTES = 256 << 10


class Reduction:
    """What all members bring, reduced; roots lie one behind the other in a member's memory, from left to right.

    Which roots those are is known from the numbers of leaves and members alone, so nobody has to tell.
    """

    def __init__(self, layout: Layout, num_leaves: int, num_members: int) -> None:
        self._sections = layout.sections
        self._piece_bytes = layout.size_bytes
        self._num_leaves = num_leaves
        self.roots = [cover(num_leaves, block(num_leaves, member, num_members)) for member in range(num_members)]
        self._step_bytes = _CHUNK_BYTES if sum(map(len, self.roots)) > 2 else 1 << 62
        self._memories: Sequence[torch.Tensor] = []
        self._parts: list[dict[Node, torch.Tensor]] = []

    @property
    def memory_bytes(self) -> int:
        """What a member's memory must hold."""
        return self._piece_bytes * max(map(len, self.roots))

    def __call__(self, memories: Sequence[torch.Tensor], target: torch.Tensor, start: int, stop: int) -> None:
        """Fill target[start:stop]; what the memories hold of those bytes is used up."""
        if not self._memories or memories[0] is not self._memories[0]:
            self._look_into(memories)
        for section, parts in zip(self._sections, self._parts, strict=True):
            width = section.dtype.itemsize
            into = target[section.start : section.end].view(section.dtype)
            low = (max(start, section.start) - section.start) // width
            high = (min(stop, section.end) - section.start) // width
            # A GPU is given all at once: to begin with a stretch costs it more than to add it up.
            step = max(self._step_bytes // width, 1) if target.device.type == "cpu" else max(high - low, 1)
            for first in range(low, high, step):
                place = slice(first, min(first + step, high))
                if section.dtype.is_floating_point:
                    self._add({root: numbers[place] for root, numbers in parts.items()}, into[place])
                else:
                    # Counters are those of the last virtual worker.
                    into[place] = parts[self.roots[-1][-1]][place]

    def _look_into(self, memories: Sequence[torch.Tensor]) -> None:
        """Find each root's numbers, per section."""
        self._memories = memories
        self._parts = [{} for _ in self._sections]
        for memory, roots in zip(memories, self.roots, strict=True):
            pieces = memory.view(-1, self._piece_bytes)
            for index, root in enumerate(roots):
                piece = pieces[index]
                for found, section in zip(self._parts, self._sections, strict=True):
                    found[root] = piece[section.start : section.end].view(section.dtype)

    def _add(self, parts: dict[Node, torch.Tensor], target: torch.Tensor) -> None:
        """The sum of the roots into `target`; what is added up beside it takes the place of its own leftmost root."""
        leftmost = parts[self.roots[0][0]]

        def combine(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
            return torch.add(first, second, out=target if first is leftmost else first)

        total = finish(self._num_leaves, parts, combine)
        if total is not target:
            target.copy_(total)
