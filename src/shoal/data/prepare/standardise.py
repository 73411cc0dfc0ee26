"""Standardise: mean 0 and deviation 1."""

from dataclasses import dataclass, replace
from typing import ClassVar, Self

from shoal.base import SchemaError
from shoal.data.prepare.affine import Affine, check_seen
from shoal.data.prepare.base import Need, single
from shoal.data.prepare.seen_numbers import SeenNumbers
from shoal.data.prepare.seen_values import SeenValues
from shoal.data.schema import Column


@dataclass(frozen=True)
class Standardise(Affine):
    """(values - mean) / std as float32; both are learned where they are not given, one pair for a whole tensor.

    Infinite values are not counted. A column whose values are all equal becomes zeros.
    """

    name: ClassVar[str] = "standardise"

    mean: float | None = None
    std: float | None = None

    def __post_init__(self) -> None:
        if (self.mean is None) != (self.std is None) or (self.std is not None and self.std < 0):
            raise SchemaError(f"{self}: expected mean and std >= 0, or neither", next_step="give both or neither")

    def need(self, column: Column) -> Need:  # noqa: ARG002
        """The distribution, unless both numbers are given."""
        return "numbers" if self.mean is None else None

    def learned(self, seen: SeenNumbers | SeenValues, column: Column) -> Self:
        """Return itself with the exact mean and deviation, rounded to float32."""
        assert isinstance(seen, SeenNumbers)
        mean, std = seen.mean_and_std()
        check_seen(column, "mean and deviation", mean, std)
        return replace(self, mean=single(mean), std=single(std))

    def _numbers(self) -> tuple[float, float]:
        return self.mean or 0.0, 1.0 if self.std is None else self.std
