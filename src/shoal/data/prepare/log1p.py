"""Log1p: the logarithm of one more than the value."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from shoal.base import InputError
from shoal.data.prepare.base import Cells, GraphWriter, Operator, Wires, as_float32, check_number, wire_as
from shoal.data.schema import Column


@dataclass(frozen=True, slots=True)
class Log1p(Operator):
    """log(1 + values) as float32, for values above -1; others are refused here and give NaN in a graph.

    Computed in float64 and rounded: NumPy's and ONNX Runtime's logarithms differ in the last bits of a float64, which
    after rounding is nothing, or one unit in the last place of a float32 about once in 2**28 values.
    """

    name: ClassVar[str] = "log1p"

    def output(self, column: Column) -> Column:
        """float32 of the same shape."""
        check_number(column, "Log1p")
        return Column(name=column.name, dtype="float32", shape=column.shape, nullable=column.nullable)

    def apply(self, cells: Cells) -> Cells:
        """Compute, rows without a value as if they had a zero.

        Raises:
            InputError: a value is -1 or below.
        """
        values = as_float32(cells.values)
        if cells.valid is not None:
            values = np.where(cells.valid.reshape(-1, *[1] * (values.ndim - 1)), values, np.float32(0))
        if values.size and not (smallest := values.min()) > -1:
            raise InputError(
                f"there is no logarithm of 1 + {smallest}: Log1p takes values above -1",
                next_step="put Clip(lower=0) before it",
            )
        x = values.astype(np.float64)
        u = x + 1.0
        rest = u - 1.0
        # The rounding of 1 + x is undone (Goldberg 1991, theorem 4): else tiny values would all become zero.
        is_tiny = rest == 0.0
        with np.errstate(invalid="ignore"):
            found = np.where(is_tiny, x, np.log(u) * (x / np.where(is_tiny, 1.0, rest)))
        # Infinite over infinite is no number, and an infinite value's logarithm is infinite.
        return Cells(np.where(np.isinf(x), x, found).astype(np.float32), cells.valid)

    def write(self, graph: GraphWriter, wires: Wires) -> Wires:
        """The same steps in float64."""
        single_values = wire_as(graph, wires, "float32")
        x = graph.add("Cast", single_values.values, to="float64")
        one, zero = graph.constant(np.float64(1)), graph.constant(np.float64(0))
        u = graph.add("Add", x, one)
        rest = graph.add("Sub", u, one)
        is_tiny = graph.add("Equal", rest, zero)
        ratio = graph.add("Div", x, graph.add("Where", is_tiny, one, rest))
        found = graph.add("Where", is_tiny, x, graph.add("Mul", graph.add("Log", u), ratio))
        is_infinite = graph.add("IsInf", single_values.values)
        found = graph.add("Where", is_infinite, x, found)
        return Wires(graph.add("Cast", found, to="float32"), "float32", wires.valid)
