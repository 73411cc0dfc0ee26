"""Which rows made a loss that is no number: for the message that ends the run."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from shoal.train.base import GlobalBatch, TrainState
from shoal.train.computing import measuring, to_device
from shoal.train.task import Batch, count_rows

# From a micro-batch to places in it, each with what is strange there.
_Search = Callable[[TrainState, Batch], list[tuple[int, str]]]
# A message with more rows than these helps nobody.
MAX_ROWS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """What was found.

    Attributes:
        rows: numbers of rows to look at, in order, at most `MAX_ROWS`.
        is_exact: each of them alone is to blame; else they only were together in the micro-batch.
        why: what is wrong with them, in words.
    """

    rows: Sequence[int]
    is_exact: bool
    why: str

    def __str__(self) -> str:
        """One clause for a message."""
        numbers = ", ".join(map(str, self.rows))
        return f"{'rows' if len(self.rows) > 1 else 'row'} {numbers}: {self.why}"


def diagnose(
    state: TrainState, batch: GlobalBatch, bad_parts: Sequence[int], row_numbers: NDArray[np.int64]
) -> Diagnosis | None:
    """Look for the rows behind a loss that is not finite, in the micro-batches that this member found it in.

    Values that are no numbers come first; then rows whose own loss is not finite, one by one. If none is, or all are,
    as where the weights have run away, the rows of these micro-batches are named together.

    Args:
        state: as it was before the step; left as it is.
        batch: the step's.
        bad_parts: micro-batches whose loss was not finite; None is returned if there are none.
        row_numbers: int64 [rows of the batch], in the batch's order.
    """
    edges = np.cumsum([0, *batch.rows])
    places = [(part, row_numbers[edges[part] : edges[part + 1]]) for part in bad_parts if batch.rows[part]]
    if not places:
        return None
    rows, reasons = _search(_strange_values, state, batch, places)
    if rows:
        return Diagnosis(rows=rows[:MAX_ROWS], is_exact=True, why=", ".join(reasons))
    rows, reasons = _search(_strange_losses, state, batch, places)
    everything = [int(number) for _, numbers in places for number in numbers]
    if 0 < len(rows) < len(everything):
        return Diagnosis(rows=rows[:MAX_ROWS], is_exact=True, why=", ".join(reasons))
    why = "the loss of each alone is no number" if rows else "the loss of each alone is finite"
    return Diagnosis(rows=everything[:MAX_ROWS], is_exact=False, why=f"{why}, so the weights may have run away")


def _search(
    search: _Search, state: TrainState, batch: GlobalBatch, places: Sequence[tuple[int, NDArray[np.int64]]]
) -> tuple[list[int], list[str]]:
    rows: list[int] = []
    reasons: dict[str, None] = {}
    for part, numbers in places:
        for place, reason in search(state, batch.read(part)):
            rows.append(int(numbers[place]))
            reasons[reason] = None
    return rows, list(reasons)


def _strange_values(_: TrainState, batch: Batch) -> list[tuple[int, str]]:
    found = []
    for name, column in batch.items():
        if column.is_floating_point():
            strange = ~torch.isfinite(column.reshape(len(column), -1))
            for place in strange.any(dim=1).nonzero().flatten().tolist():
                value = column.reshape(len(column), -1)[place][strange[place]][0].item()
                found.append((place, f"{name} holds {value}"))
    return sorted(found)


def _strange_losses(state: TrainState, batch: Batch) -> list[tuple[int, str]]:
    found = []
    # In evaluation mode, as batch normalisation refuses a row alone.
    with measuring(state):
        for place in range(count_rows(batch)):
            row = to_device(state.module, {name: column[place : place + 1] for name, column in batch.items()})
            loss = 0.0
            # The task's own code, which may take no row alone: then none can be blamed.
            with suppress(Exception):
                loss = state.task.compute(state.module, row).item()
            if not np.isfinite(loss):
                found.append((place, f"the loss of each alone is {loss}"))
    return found
