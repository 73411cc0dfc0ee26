"""The collective strategy: every worker holds the whole model, and all of them agree on each step's gradient.

A global batch is always cut into the same V micro-batches. A worker computes a block of them, adds up the complete
subtrees of its block, and the roots go to everybody, who finish the same tree and take the same optimiser step.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from shoal.base import ConfigError
from shoal.train.base import GlobalBatch, Group, TrainState
from shoal.train.light_torch import without_compiler
from shoal.train.tree import Node, block, cover, finish, reduce_leaves
from shoal.train.virtual import Contribution, Layout, VirtualWorkers

# Bytes: the widest vector register, and a multiple of every dtype's width.
_ALIGNED = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Collective:
    """Synchronous data parallelism whose result does not depend on the number of workers.

    Attributes:
        num_virtual: micro-batches per global batch. Runs with the same number give the same weights, bit for bit, on
            1 to `num_virtual` workers. None means as many as there may be workers.
    """

    num_virtual: int | None = None

    def __post_init__(self) -> None:
        if self.num_virtual is not None and self.num_virtual < 1:
            raise ConfigError(
                f"num_virtual={self.num_virtual} must be >= 1",
                next_step="leave it out to get as many as there are workers",
            )

    def roles(self, workers: int) -> Mapping[str, int]:
        """Workers alone."""
        block(self.num_parts(workers), 0, workers)
        return {"worker": workers}

    def num_parts(self, workers: int) -> int:
        """`num_virtual`."""
        return workers if self.num_virtual is None else self.num_virtual

    def join(self, state: TrainState, group: Group, *, seed: int, num_parts: int) -> "CollectiveStepper":
        """This member's block of the virtual workers."""
        return CollectiveStepper(state, group, seed=seed, num_parts=num_parts)


class CollectiveStepper:
    """One worker's side of the collective step."""

    def __init__(self, state: TrainState, group: Group, *, seed: int, num_parts: int) -> None:
        self._state = state
        self._group = group
        self._num_parts = num_parts
        self._virtual = VirtualWorkers(state, seed)
        # Known from the numbers alone, so nobody has to say which roots lie where in the bytes exchanged.
        self._roots = [cover(num_parts, block(num_parts, rank, group.size)) for rank in range(group.size)]
        layout = self._virtual.layout
        size = -(-layout.size_bytes // _ALIGNED) * _ALIGNED
        num_bytes = size * max(len(roots) for roots in self._roots)
        self._mine, *self._everyone = (torch.zeros(num_bytes, dtype=torch.uint8) for _ in range(group.size + 1))
        # The first leaf of a root is where its sum grows, so it is computed where it is sent from.
        self._outgoing = _views(layout, self._mine, self._roots[group.rank], size)
        self._incoming: dict[Node, Contribution] = {}
        for data, roots in zip(self._everyone, self._roots, strict=True):
            self._incoming |= _views(layout, data, roots, size)
        self._first_leaves = {root.first: place for root, place in self._outgoing.items()}
        self._spare: list[Contribution] = []

    def step(self, batch: GlobalBatch) -> float:
        """Compute the own block, exchange roots, finish the tree, step the optimiser."""
        self._virtual.begin()
        total = self._reduce(batch)
        loss = total.loss.item()
        if not math.isfinite(loss):
            self._virtual.undo()
            return loss
        self._virtual.apply(total)
        with without_compiler():
            self._state.optimizer.step()
        if self._state.scheduler is not None:
            self._state.scheduler.step()
        return loss

    def _reduce(self, batch: GlobalBatch) -> Contribution:
        num_rows = sum(batch.rows)

        def leaf(part: int) -> Contribution:
            place = self._first_leaves.get(part) or self._take_spare()
            rows = batch.rows[part]
            self._virtual.contribute(batch.read(part) if rows else None, part, rows / num_rows, place)
            return place

        for root in self._outgoing:
            reduce_leaves(root, leaf, self._add)
        if self._group.size == 1:
            return self._outgoing[Node(0, self._num_parts)]
        self._group.exchange(self._mine, self._everyone)
        return finish(self._num_parts, self._incoming, Contribution.add)

    def _add(self, earlier: Contribution, later: Contribution) -> Contribution:
        self._spare.append(later)
        return earlier.add(later)

    def _take_spare(self) -> Contribution:
        return self._spare.pop() if self._spare else self._virtual.layout.new()


def _views(layout: Layout, data: torch.Tensor, roots: tuple[Node, ...], size: int) -> dict[Node, Contribution]:
    return {
        root: Contribution(layout, data[index * size : index * size + layout.size_bytes])
        for index, root in enumerate(roots)
    }
