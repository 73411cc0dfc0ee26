"""What subtracts and divides: values moved by a number and divided by another, in float32."""

from functools import cached_property
from typing import ClassVar

import numpy as np

from shoal.base import SchemaError
from shoal.data.prepare.base import Cells, GraphWriter, Operator, Wires, check_number, single, wire_as
from shoal.data.schema import Column


class Affine(Operator):
    """(values - shift) / scale. Two roundings, in this order on both sides, so a graph gives the same bits."""

    name: ClassVar[str] = "affine"

    def _numbers(self) -> tuple[float, float]:
        raise NotImplementedError

    # Kept: the same in every batch, and each rounding costs as much as the arithmetic on a small one.
    @cached_property
    def _float32(self) -> tuple[np.float32, np.float32]:
        shift, scale = self._numbers()
        # A column of one value has no spread: it becomes zeros instead of a division by zero.
        return np.float32(single(shift)), np.float32(single(scale) or 1.0)

    def output(self, column: Column) -> Column:
        """float32 of the same shape."""
        check_number(column, type(self).__name__)
        return Column(name=column.name, dtype="float32", shape=column.shape, nullable=column.nullable)

    def apply(self, cells: Cells) -> Cells:
        """Subtract, then divide, in an array of its own."""
        shift, scale = self._float32
        with np.errstate(over="ignore"):
            values = cells.values.astype(np.float32)
            values -= shift
            values /= scale
        return Cells(values, cells.valid)

    def write(self, graph: GraphWriter, wires: Wires) -> Wires:
        """Sub, then Div."""
        shift, scale = self._float32
        values = graph.add("Sub", wire_as(graph, wires, "float32").values, graph.constant(shift))
        return Wires(graph.add("Div", values, graph.constant(scale)), "float32", wires.valid)


def check_seen(column: Column, name: str, *numbers: float) -> None:
    """Refuse numbers learned from a column without finite values."""
    if not np.isfinite(numbers).all():
        raise SchemaError(
            f"cannot learn {name} of column {column.name!r}: no row has a finite value",
            next_step="leave the column out, or give the numbers",
        )
