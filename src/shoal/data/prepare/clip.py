"""Clip: nothing beyond two bounds."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar, Self

import numpy as np

from shoal.base import SchemaError
from shoal.data.prepare.base import (
    Cells,
    GraphWriter,
    Need,
    Operator,
    Wires,
    as_float32,
    check_number,
    single,
    wire_as,
)
from shoal.data.prepare.seen_numbers import SeenNumbers
from shoal.data.prepare.seen_values import SeenValues
from shoal.data.schema import Column


@dataclass(frozen=True)
class Clip(Operator):
    """Replaces what lies beyond a bound by the bound; None leaves a side open. Gives float32.

    With `quantiles=(0.01, 0.99)` the bounds are learned: values of the data that lie at these quantiles or just
    outside, by at most 3%.
    """

    name: ClassVar[str] = "clip"

    lower: float | None = None
    upper: float | None = None
    quantiles: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        given = [bound for bound in (self.lower, self.upper) if bound is not None]
        quantiles = self.quantiles or (0.0, 1.0)
        is_one_way = bool(given) != (self.quantiles is not None)
        if not is_one_way or given != sorted(given) or not 0 <= quantiles[0] < quantiles[1] <= 1:
            raise SchemaError(
                f"{self} says no two bounds: expected lower <= upper, or two quantiles from 0 to 1, and not both",
                next_step="for example Clip(0, 100), or Clip(quantiles=(0.01, 0.99))",
            )

    def need(self, column: Column) -> Need:  # noqa: ARG002
        """The distribution, where quantiles were asked for."""
        return None if self.quantiles is None else "numbers"

    def learned(self, seen: SeenNumbers | SeenValues, column: Column) -> Self:
        """Return itself with bounds."""
        assert isinstance(seen, SeenNumbers)
        assert self.quantiles is not None
        if seen.low > seen.high:
            raise SchemaError(
                f"cannot learn the quantiles of column {column.name!r}: no row has a finite value",
                next_step="give the bounds, or leave the column out",
            )
        low, high = self.quantiles
        # Infinities among the data are what clipping is to remove: they are no bounds.
        return replace(
            self, lower=max(seen.low_at(low), seen.low), upper=min(seen.high_at(high), seen.high), quantiles=None
        )

    @property
    def passes_on(self) -> bool:
        """Always."""
        return True

    def passed_on(self, seen: SeenNumbers) -> SeenNumbers:
        """What lies beyond becomes copies of the bounds: exact, because learned bounds are extremes of bins."""
        return seen.clipped(self.lower, self.upper)

    def output(self, column: Column) -> Column:
        """float32 of the same shape."""
        check_number(column, "Clip")
        return Column(name=column.name, dtype="float32", shape=column.shape, nullable=column.nullable)

    @cached_property
    def _bounds(self) -> tuple[np.float32 | None, np.float32 | None]:
        lower, upper = (None if each is None else np.float32(single(each)) for each in (self.lower, self.upper))
        return lower, upper

    def apply(self, cells: Cells) -> Cells:
        """The larger of value and lower bound, then the smaller of that and the upper."""
        values = as_float32(cells.values)
        lower, upper = self._bounds
        if lower is not None:
            values = np.maximum(values, lower)
        if upper is not None:
            values = np.minimum(values, upper)
        return Cells(values, cells.valid)

    def write(self, graph: GraphWriter, wires: Wires) -> Wires:
        """Max, then Min."""
        values = wire_as(graph, wires, "float32").values
        lower, upper = self._bounds
        if lower is not None:
            values = graph.add("Max", values, graph.constant(lower))
        if upper is not None:
            values = graph.add("Min", values, graph.constant(upper))
        return Wires(values, "float32", wires.valid)
