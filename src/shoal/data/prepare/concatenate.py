"""Concatenate: several prepared columns become one vector."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from shoal.base import SchemaError
from shoal.data.prepare.base import GraphWriter, Values, Wires, as_float32, check_number, wire_as
from shoal.data.schema import Column


@dataclass(frozen=True, slots=True)
class Concatenate:
    """The named columns, as they leave their own operators, side by side as float32 [num_rows, num_features].

    Tensors are laid out row by row. The columns themselves are left out of the result unless `keep` says otherwise.
    """

    columns: tuple[str, ...]
    keep: bool = False

    def __post_init__(self) -> None:
        # A list reads as well; a frozen value holds a tuple.
        object.__setattr__(self, "columns", tuple(self.columns))
        if not self.columns or len(set(self.columns)) != len(self.columns):
            raise SchemaError(
                f"cannot concatenate {list(self.columns)}: expected at least one column, each once",
                next_step="for example Concatenate(['age', 'income'])",
            )

    def output(self, name: str, columns: Sequence[Column]) -> Column:
        """Return the vector's column.

        Raises:
            SchemaError: a part does not hold numbers, or has rows without a value.
        """
        for column in columns:
            check_number(column, "Concatenate")
            if column.nullable:
                raise SchemaError(
                    f"cannot concatenate column {column.name!r}: some of its rows have no value",
                    next_step=f"give {column.name!r} an Impute",
                )
        return Column(name=name, dtype="float32", shape=(sum(_width(column.shape) for column in columns),))

    def apply(self, batch: Mapping[str, Values]) -> Values:
        """Return the vectors of a batch."""
        parts = [as_float32(batch[name]) for name in self.columns]
        widths = [_width(part.shape[1:]) for part in parts]
        vector = np.empty((len(parts[0]), sum(widths)), np.float32)
        start = 0
        for part, width in zip(parts, widths, strict=True):
            vector[:, start : start + width] = part.reshape(len(part), width)
            start += width
        return vector

    def write(self, graph: GraphWriter, wires: Mapping[str, Wires]) -> Wires:
        """Reshape each part to [num_rows, width], then Concat."""
        parts = []
        for name in self.columns:
            shape = np.array([-1, _width(wires[name].shape)], np.int64)
            parts.append(graph.add("Reshape", wire_as(graph, wires[name], "float32").values, graph.constant(shape)))
        width = sum(_width(wires[name].shape) for name in self.columns)
        return Wires(graph.add("Concat", *parts, axis=1), "float32", shape=(width,))


def _width(shape: tuple[int, ...]) -> int:
    return int(np.prod(shape, dtype=np.int64))
