"""Measures that add up: any split of the same batches over any number of workers gives the same number."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch

from shoal.base import InputError


class Metric(Protocol):
    """A measure kept as two sums over rows, whose quotient is the number that people read."""

    @property
    def total(self) -> float:
        """The sum above the line."""

    @property
    def weight(self) -> float:
        """The sum below the line, such as a number of rows."""


@dataclass(frozen=True, slots=True)
class Mean:
    """A weighted mean kept as its two sums, so that it can be merged without losing a bit."""

    total: float
    weight: float

    @classmethod
    def of(cls, values: torch.Tensor) -> "Mean":
        """The mean over all elements of a tensor, each with weight one."""
        return cls(float(values.sum(dtype=torch.float64)), float(values.numel()))

    @property
    def value(self) -> float:
        """The mean itself; NaN when nothing was counted."""
        return self.total / self.weight if self.weight else math.nan


def merge_means(means: Iterable[Metric]) -> Mean:
    """One mean from many: the sums are exact and rounded once, so the order of the parts cannot matter."""
    parts = list(means)
    return Mean(math.fsum(part.total for part in parts), math.fsum(part.weight for part in parts))


def merge_by_name(parts: Iterable[Mapping[str, Metric]]) -> dict[str, Mean]:
    """The same for measures that come in named groups, as one group per batch does."""
    found: dict[str, list[Metric]] = {}
    for part in parts:
        for name, mean in part.items():
            found.setdefault(name, []).append(mean)
    return {name: merge_means(means) for name, means in found.items()}


def accuracy(outputs: torch.Tensor, labels: torch.Tensor) -> Mean:
    """Share of rows whose highest score is at the label's class.

    Args:
        outputs: scores, float [batch, classes].
        labels: class numbers, integer [batch].

    Raises:
        InputError: the shapes do not fit these two.
    """
    if outputs.ndim != 2 or labels.shape != outputs.shape[:1]:
        raise InputError(
            f"cannot compute accuracy of outputs {tuple(outputs.shape)} against labels {tuple(labels.shape)}: "
            "expected [batch, classes] and [batch]",
            next_step="return scores per class from the model's forward, and one class number per row",
        )
    return Mean.of(outputs.argmax(dim=1) == labels)
