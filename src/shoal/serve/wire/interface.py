"""What one version of a model takes and gives, as the replica that loaded it tells the front."""

from collections.abc import Container, Mapping, Sequence

import msgspec

from shoal.serve.wire.refusal import RefusedError, shorten, wrong_field
from shoal.serve.wire.tensors import DATATYPES, Array, Datatype


class TensorField(msgspec.Struct, frozen=True):
    """One input or output; None in the shape is a size that the request chooses, the first of them its rows.

    Attributes:
        fills_nan: whether the model itself puts a value where NaN stands in an input of floats: then NaN may say that a
            row has none.
    """

    name: str
    datatype: str
    shape: tuple[int | None, ...]
    fills_nan: bool = False

    @property
    def type(self) -> Datatype:
        """The element type."""
        return DATATYPES[self.datatype]

    @property
    def wire_shape(self) -> list[int]:
        """The shape as the protocol writes it: -1 where any size goes."""
        return [-1 if size is None else size for size in self.shape]


class Interface(msgspec.Struct, frozen=True):
    """The inputs and outputs of one version.

    Attributes:
        batched: whether the first dimension of everything counts rows, so that requests may share a batch; a model
            exported for one fixed size is not batched, and each request runs alone.
        deterministic: whether the same input always has the same answer, which may then be kept.
    """

    inputs: tuple[TensorField, ...]
    outputs: tuple[TensorField, ...]
    batched: bool
    deterministic: bool = True

    def check_shape(self, field: TensorField, shape: Sequence[int]) -> None:
        """Raise the 400 for a tensor of another shape than the model takes, or without rows."""
        if len(shape) == len(field.shape) and all(map(_fits, shape, field.shape)):
            return
        raise wrong_field(
            f"inputs.{field.name}.shape",
            found=list(shape),
            expected=f"{field.wire_shape}" + (" with -1 standing for 1 or more" if None in field.shape else ""),
        )

    def no_input(self, name: str) -> RefusedError:
        """The 400 for an input that the model does not have."""
        return wrong_field(
            f"inputs.{shorten(name)}",
            found="an input that the model does not have",
            expected=f"inputs named {', '.join(field.name for field in self.inputs)}",
        )

    def in_order(self, arrays: Mapping[int, Array]) -> tuple[Array, ...]:
        """The arrays by their places, all of them; raises the 400 for the first input that is missing."""
        for place, field in enumerate(self.inputs):
            if place not in arrays:
                raise wrong_field(
                    f"inputs.{field.name}",
                    found="no such input",
                    expected=f"{field.datatype} of shape {field.wire_shape}",
                )
        return tuple(arrays[place] for place in range(len(arrays)))

    def count_rows(self, arrays: Sequence[Array]) -> int:
        """Rows in each of a request's arrays, 1 for a model that is not batched; raises the 400 where they differ."""
        if not self.batched:
            return 1
        num_rows = len(arrays[0])
        for field, array in zip(self.inputs, arrays, strict=True):
            if len(array) != num_rows:
                raise wrong_field(
                    f"inputs.{field.name}.shape",
                    found=f"{len(array)} rows",
                    expected=f"{num_rows} rows, as in {self.inputs[0].name}",
                )
        return num_rows


class InputPlaces:
    """Finds which input a tensor of a request is, and refuses it where it is not just that."""

    def __init__(self, interface: Interface) -> None:
        self._interface = interface
        self._known = {field.name: (place, field) for place, field in enumerate(interface.inputs)}

    def find(self, name: str, datatype: str, shape: Sequence[int], taken: Container[int]) -> tuple[int, TensorField]:
        """The place of an input and what it is; `taken` are the places of the request's tensors before it.

        Raises:
            RefusedError: 400, the model has no such input, or of another type or shape, or it came before.
        """
        known = self._known.get(name)
        if known is None:
            raise self._interface.no_input(name)
        place, field = known
        if place in taken:
            raise wrong_field(f"inputs.{field.name}", found="the same input twice", expected="each input once")
        # Never cast: 300 as UINT8 or 1.5 as INT32 would be answered with a prediction for something else.
        if datatype != field.datatype:
            raise wrong_field(
                f"inputs.{field.name}.datatype", found=repr(shorten(datatype)), expected=repr(field.datatype)
            )
        self._interface.check_shape(field, shape)
        return known


def _fits(found: int, size: int | None) -> bool:
    return found == size if size is not None else found >= 1
