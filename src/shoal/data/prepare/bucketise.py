"""Bucketise: numbers become the index of the interval that they lie in."""

from dataclasses import dataclass, replace
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
    check_increasing,
    check_number,
    single,
    wire_as,
)
from shoal.data.prepare.seen_numbers import SeenNumbers
from shoal.data.prepare.seen_values import SeenValues
from shoal.data.schema import Column

# In a graph each value is compared with each border.
_MAX_BORDERS = 4_096


@dataclass(frozen=True, slots=True)
class Bucketise(Operator):
    """int64 index from 0 to the number of borders: how many borders are at or below the value.

    Give `borders`, or how many buckets of about equal size shall be learned: their borders are quantiles (within 3%),
    and fewer where the data repeats itself.
    """

    name: ClassVar[str] = "bucketise"

    borders: tuple[float, ...] | None = None
    num_buckets: int | None = None

    def __post_init__(self) -> None:
        count = len(self.borders) + 1 if self.borders is not None else self.num_buckets or 0
        if (self.borders is None) == (self.num_buckets is None) or not 1 <= count <= _MAX_BORDERS:
            raise SchemaError(
                f"{type(self).__name__} takes borders, or num_buckets from 1 to {_MAX_BORDERS}: found {count} buckets",
                next_step="for example Bucketise((10, 20, 50)), or Bucketise(num_buckets=10)",
            )
        check_increasing(self.borders or (), "borders")

    def need(self, column: Column) -> Need:  # noqa: ARG002
        """The distribution, unless borders are given."""
        return "numbers" if self.borders is None else None

    def learned(self, seen: SeenNumbers | SeenValues, column: Column) -> Self:
        """Return itself with borders."""
        assert isinstance(seen, SeenNumbers)
        assert self.num_buckets is not None
        if seen.low > seen.high:
            raise SchemaError(
                f"cannot learn the quantiles of column {column.name!r}: no row has a finite value",
                next_step="give the borders, or leave the column out",
            )
        found = [single(seen.quantile(index / self.num_buckets)) for index in range(1, self.num_buckets)]
        borders = sorted({border for border in found if np.isfinite(border)})
        return replace(self, borders=tuple(borders), num_buckets=None)

    def output(self, column: Column) -> Column:
        """int64, one a row."""
        check_number(column, "Bucketise", scalar=True)
        return Column(name=column.name, dtype="int64", nullable=column.nullable)

    def apply(self, cells: Cells) -> Cells:
        """A binary search per value."""
        borders = np.array(self.borders or (), np.float32)
        return Cells(np.searchsorted(borders, as_float32(cells.values), side="right"), cells.valid)

    def write(self, graph: GraphWriter, wires: Wires) -> Wires:
        """Compare with every border, and count."""
        column = graph.add("Unsqueeze", wire_as(graph, wires, "float32").values, graph.constant(np.array([1])))
        borders = graph.constant(np.array([self.borders or ()], np.float32))
        reached = graph.add("Cast", graph.add("GreaterOrEqual", column, borders), to="int64")
        return Wires(graph.add("ReduceSum", reached, graph.constant(np.array([1])), keepdims=0), "int64", wires.valid)
