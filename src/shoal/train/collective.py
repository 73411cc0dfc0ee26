"""The collective strategy: every worker holds the whole model, and all of them agree on each step's gradient.

A global batch is always cut into the same V micro-batches. A worker computes a block of them, adds up the complete
subtrees of its block, and the roots go to everybody, who finish the same tree and take the same optimiser step.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from time import monotonic

import torch

from shoal.base import ConfigError
from shoal.train.base import GlobalBatch, Group, PeerLostError, StepOutcome, TrainState
from shoal.train.device import explaining_determinism
from shoal.train.layout import Contribution
from shoal.train.reduction import Reduction
from shoal.train.tree import block, reduce_leaves
from shoal.train.updating import update
from shoal.train.virtual import VirtualWorkers, square_of

_READERS = (torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW)


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

    def join(
        self, state: TrainState, group: Group, *, seed: int, num_parts: int, measure_noise: bool = False
    ) -> "CollectiveStepper":
        """This member's block of the virtual workers."""
        return CollectiveStepper(state, group, seed=seed, num_parts=num_parts, measure_noise=measure_noise)


class CollectiveStepper:
    """One worker's side of the collective step.

    A step that ends in PeerLostError leaves weights, buffers and optimisers as they were before it.
    """

    def __init__(self, state: TrainState, group: Group, *, seed: int, num_parts: int, measure_noise: bool) -> None:
        self._state = state
        self._group = group
        self._measure_noise = measure_noise
        self._virtual = VirtualWorkers(state, seed, measure_noise=measure_noise)
        layout = self._virtual.layout
        self._reduction = Reduction(layout, num_parts, group.size)
        memory = group.memory(self._reduction.memory_bytes)
        # A root's sum grows where it is computed, and is sent from there.
        self._places = {
            root: Contribution(layout, memory[index * layout.size_bytes : (index + 1) * layout.size_bytes])
            for index, root in enumerate(self._reduction.roots[group.rank])
        }
        self._spare: list[Contribution] = []
        self._total: Contribution | None = None

    def step(self, batch: GlobalBatch, note: int = 0) -> StepOutcome:
        """Compute the own block, reduce with the others, step the optimisers."""
        with explaining_determinism():
            bad_parts = self._compute(batch)
        began = monotonic()
        size = self._virtual.layout.size_bytes
        try:
            data, notes = self._group.combine(size, self._reduction, note)
        except PeerLostError:
            self._virtual.undo()
            raise
        combined = monotonic()
        total = self._view(data)
        loss = total.loss.item()
        whole_square = square_of(total.gradients) if self._measure_noise else math.nan
        part_square = total.square.item() if self._measure_noise else math.nan
        if math.isfinite(loss):
            self._virtual.apply(total, in_place=self._group.size == 1 or _only_reads_gradients(self._state))
            update(self._state)
        else:
            self._virtual.undo()
        return StepOutcome(
            loss=loss,
            notes=notes,
            part_square=part_square,
            whole_square=whole_square,
            bad_parts=bad_parts,
            exchange_s=combined - began,
            update_s=monotonic() - combined,
        )

    def _compute(self, batch: GlobalBatch) -> list[int]:
        """Fill this member's memory; the micro-batches whose loss is not finite."""
        virtual = self._virtual
        num_rows = sum(batch.rows)
        first_places = {root.first: place for root, place in self._places.items()}
        bad_parts: list[int] = []

        def bring(part: int, place: Contribution, *, onto: bool) -> Contribution:
            rows = batch.rows[part]
            weight = rows / num_rows if rows else 0.0
            loss = virtual.contribute(batch.read(part) if rows else None, part, weight, place, onto=onto)
            if not math.isfinite(loss):
                bad_parts.append(part)
            return place

        def leaf(part: int) -> Contribution:
            place = first_places.get(part) or (self._spare.pop() if self._spare else virtual.layout.new())
            return bring(part, place, onto=False)

        def add(earlier: Contribution, later: Contribution) -> Contribution:
            self._spare.append(later)
            return earlier.add(later)

        virtual.begin()
        for root in self._places:
            reduce_leaves(root, leaf, add, lambda place, part: bring(part, place, onto=True))
        return bad_parts

    def _view(self, data: torch.Tensor) -> Contribution:
        """The result's bytes as a contribution."""
        if self._total is None or self._total.data is not data:
            self._total = Contribution(self._virtual.layout, data)
        return self._total


def _only_reads_gradients(state: TrainState) -> bool:
    """Whether nothing in an update writes to the gradients, so that all members may look at the same ones.

    Known of a few optimisers as torch has them; of any other, and wherever somebody hooked in, it is assumed that they
    do, and each member gets a copy of its own.
    """
    return state.task.clip_norm is None and all(
        type(optimizer) in _READERS and not vars(optimizer).get("_optimizer_step_pre_hooks")
        for optimizer in state.optimizers
    )
