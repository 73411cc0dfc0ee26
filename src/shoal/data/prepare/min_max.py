"""MinMax: the smallest value becomes 0, the largest 1."""

from dataclasses import dataclass, replace
from typing import ClassVar, Self

from shoal.base import SchemaError
from shoal.data.prepare.affine import Affine, check_seen
from shoal.data.prepare.base import Need, single
from shoal.data.prepare.seen_numbers import SeenNumbers
from shoal.data.prepare.seen_values import SeenValues
from shoal.data.schema import Column


@dataclass(frozen=True)
class MinMax(Affine):
    """(values - low) / (high - low) as float32; both are learned where they are not given.

    Later values beyond them leave the range from 0 to 1: put a `Clip` before or after where that must not be.
    """

    name: ClassVar[str] = "min_max"

    low: float | None = None
    high: float | None = None

    def __post_init__(self) -> None:
        if (self.low is None) != (self.high is None) or (self.high or 0.0) < (self.low or 0.0):
            raise SchemaError(f"{self}: expected low <= high, or neither", next_step="give both or neither")

    def need(self, column: Column) -> Need:  # noqa: ARG002
        """The distribution, unless both numbers are given."""
        return "numbers" if self.low is None else None

    def learned(self, seen: SeenNumbers | SeenValues, column: Column) -> Self:
        """Return itself with the smallest and the largest finite value."""
        assert isinstance(seen, SeenNumbers)
        check_seen(column, "smallest and largest value", seen.low, seen.high)
        return replace(self, low=single(seen.low), high=single(seen.high))

    def _numbers(self) -> tuple[float, float]:
        low, high = self.low or 0.0, 1.0 if self.high is None else self.high
        return low, high - low
