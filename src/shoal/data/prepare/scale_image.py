"""ScaleImage: pixels as networks want them."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from shoal.base import SchemaError
from shoal.data.prepare.base import Cells, GraphWriter, Operator, Values, Wires, check_number, wire_as
from shoal.data.schema import Column


@dataclass(frozen=True, slots=True)
class ScaleImage(Operator):
    """Images [height, width] or [height, width, channels] to float32: divided, standardised per channel, transposed.

    (pixels / divisor - mean) / std, with one mean and std per channel or one for all; then, with `channels_first`,
    [channels, height, width]. `stored_first` says that the channels come first in the data already.
    """

    name: ClassVar[str] = "scale_image"

    divisor: float = 255.0
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    channels_first: bool = True
    stored_first: bool = False

    def __post_init__(self) -> None:
        if not self.divisor > 0 or len(self.mean) != len(self.std) or any(not each > 0 for each in self.std):
            raise SchemaError(
                f"{self}: expected a divisor above 0, and as many means as deviations above 0",
                next_step="give one mean and one std per channel, or leave both out",
            )

    def output(self, column: Column) -> Column:
        """float32, transposed where asked for."""
        check_number(column, "ScaleImage")
        if len(column.shape) not in (2, 3):
            raise SchemaError(
                f"cannot scale column {column}: expected images [height, width] or [height, width, channels]",
                next_step="use Standardise for other tensors",
            )
        channels = column.shape[0 if self.stored_first else -1] if len(column.shape) == 3 else 1
        if len(self.mean) not in (0, 1, channels):
            raise SchemaError(
                f"column {column} has {channels} channels, and ScaleImage {len(self.mean)} means",
                next_step=f"give 1 or {channels} means and deviations, or say stored_first=True",
            )
        shape = column.shape
        if self._is_transposed(len(shape)):
            shape = (shape[2], shape[0], shape[1])
        return Column(name=column.name, dtype="float32", shape=shape, nullable=column.nullable)

    def _is_transposed(self, num_dims: int) -> bool:
        return num_dims == 3 and self.channels_first and not self.stored_first

    def _per_channel(self, numbers: tuple[float, ...]) -> Values:
        found = np.array(numbers, np.float32)
        # Behind the batch, channels are first here: they were stored or have just been put there.
        is_first = self.channels_first or self.stored_first
        return found.reshape(-1, 1, 1) if len(numbers) > 1 and is_first else found

    def apply(self, cells: Cells) -> Cells:
        """Transpose while the pixels are copied, then compute in place."""
        pixels = cells.values
        if self._is_transposed(pixels.ndim - 1):
            pixels = pixels.transpose(0, 3, 1, 2)
        # One array is made and then worked in: a second one of this size costs more than all the arithmetic.
        with np.errstate(over="ignore"):
            values = np.array(pixels, np.float32, order="C")
            values /= np.float32(self.divisor)
        if self.mean:
            values -= self._per_channel(self.mean)
            values /= self._per_channel(self.std)
        return Cells(values, cells.valid)

    def write(self, graph: GraphWriter, wires: Wires) -> Wires:
        """Transpose, Cast, Div, Sub, Div."""
        values = wires
        if self._is_transposed(len(wires.shape)):
            values = Wires(graph.add("Transpose", wires.values, perm=[0, 3, 1, 2]), wires.dtype)
        found = wire_as(graph, values, "float32").values
        found = graph.add("Div", found, graph.constant(np.float32(self.divisor)))
        if self.mean:
            found = graph.add("Sub", found, graph.constant(self._per_channel(self.mean)))
            found = graph.add("Div", found, graph.constant(self._per_channel(self.std)))
        return Wires(found, "float32", wires.valid)
