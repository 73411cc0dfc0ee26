"""Cast: another type of number, nothing else."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from shoal.base import SchemaError
from shoal.data.prepare.base import Cells, GraphWriter, Operator, Wires, check_number, wire_as
from shoal.data.schema import Column


@dataclass(frozen=True, slots=True)
class Cast(Operator):
    """Numbers or booleans to float32, or whole numbers and booleans to int64.

    A float is not cast to int64: how values beyond its range come out differs from machine to machine.
    """

    name: ClassVar[str] = "cast"

    dtype: Literal["float32", "int64"] = "float32"

    def output(self, column: Column) -> Column:
        """The same shape."""
        check_number(column, "Cast")
        if self.dtype == "int64" and column.dtype.startswith("float"):
            raise SchemaError(
                f"cannot cast column {column} to int64: values beyond its range would depend on the machine",
                next_step="use Bucketise, or Cast('float32')",
            )
        return Column(name=column.name, dtype=self.dtype, shape=column.shape, nullable=column.nullable)

    def apply(self, cells: Cells) -> Cells:
        """Convert."""
        with np.errstate(over="ignore"):
            return Cells(cells.values.astype(self.dtype, copy=False), cells.valid)

    def write(self, graph: GraphWriter, wires: Wires) -> Wires:
        """Cast."""
        return wire_as(graph, wires, self.dtype)
