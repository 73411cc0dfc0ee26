"""Measures that add up: any split of the same batches over any number of workers gives the same number."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import torch

from shoal.base import InputError


@runtime_checkable
class Metric(Protocol):
    """A measure kept as two sums over rows, whose quotient is the number that people read."""

    @property
    def total(self) -> float:
        """The sum above the line."""

    @property
    def weight(self) -> float:
        """The sum below the line, such as a number of rows."""


def check_metric(name: str, value: object) -> Metric:
    """The value itself, if it is a measure that any split of the rows adds up to.

    Raises:
        InputError: it is not, as where a batch's mean is given without its number of rows.
    """
    if isinstance(value, Metric):
        return value
    raise InputError(
        f"cannot use the measure {name!r}: it is a {type(value).__name__}, which does not say over how many rows, "
        "expected a shoal.train.Metric",
        next_step="return shoal.train.Mean.of(one value per row), Mean.over(mean, num_rows) or accuracy(...)",
    )


@dataclass(frozen=True, slots=True)
class Mean:
    """A weighted mean kept as its two sums, so that it can be merged without losing a bit."""

    total: float
    weight: float

    @classmethod
    def of(cls, values: torch.Tensor) -> "Mean":
        """The mean over all elements of a tensor, each with weight one."""
        return cls(float(values.sum(dtype=torch.float64)), float(values.numel()))

    @classmethod
    def over(cls, mean: float, num_rows: int) -> "Mean":
        """A mean that was taken over so many rows."""
        return cls(mean * num_rows, float(num_rows))

    @property
    def value(self) -> float:
        """The mean itself; NaN when nothing was counted."""
        return self.total / self.weight if self.weight else math.nan


@dataclass(slots=True)
class ExactSum:
    """A sum without any rounding until it is read: the order of what is added cannot matter, nor who added it.

    Kept as a few numbers that do not overlap; memory does not grow with what was added.

    Source: Shewchuk 1997, "Adaptive precision floating-point arithmetic", as `math.fsum` has it.
    """

    parts: list[float] = field(default_factory=list)
    # What is infinite or no number, or was too large to be added exactly.
    lost: float = 0.0

    def add(self, value: float) -> None:
        """Add one number, or one of another sum's parts."""
        kept = []
        for part in self.parts:
            large, small = (value, part) if abs(value) >= abs(part) else (part, value)
            value = large + small
            if rest := small - (value - large):
                kept.append(rest)
        if math.isfinite(value):
            self.parts = [*kept, value]
        else:
            self.parts, self.lost = [], self.lost + value

    @property
    def value(self) -> float:
        """The sum, rounded once."""
        return self.lost or math.fsum(self.parts)


@dataclass(slots=True)
class Tally:
    """A mean under way: as many measures as come, in the memory of a few numbers."""

    total: ExactSum = field(default_factory=ExactSum)
    weight: ExactSum = field(default_factory=ExactSum)

    def add(self, metric: Metric) -> None:
        """Take in one more measure."""
        self.total.add(float(metric.total))
        self.weight.add(float(metric.weight))

    def merge(self, other: "Tally") -> None:
        """Take in all that another has; the same bits in any order."""
        for mine, others in ((self.total, other.total), (self.weight, other.weight)):
            for part in [*others.parts, *([others.lost] if others.lost else [])]:
                mine.add(part)

    @property
    def mean(self) -> Mean:
        """What all measures together come to."""
        return Mean(self.total.value, self.weight.value)


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
