"""What a model takes and gives: names, dtypes and shapes, and the one check of arrays against them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shoal.base import InputError, PackageError

# What every part of the loop can carry: Arrow columns, safetensors, the inference protocol and ONNX Runtime.
DTYPES = (
    *("bool", "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64"),
    *("float16", "float32", "float64"),
    "string",
)


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input or output.

    Attributes:
        name: unique within a signature.
        dtype: NumPy's word for it, one of `DTYPES`; "string" for texts, which are arrays of Python objects.
        shape: `None` where any size >= 1 goes; the first dimension is the batch and is `None` in every package.
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...]

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise PackageError(
                f"cannot describe {self.name!r}: its dtype is {self.dtype!r}, expected one of {', '.join(DTYPES)}",
                next_step="convert it inside the model",
            )

    @property
    def numpy_dtype(self) -> np.dtype[Any]:
        """The type of an array of it."""
        return np.dtype(object if self.dtype == "string" else self.dtype)

    @property
    def row_shape(self) -> tuple[int | None, ...]:
        """The shape of one row, without the batch dimension."""
        return self.shape[1:]

    def check(self, array: NDArray[Any]) -> int:
        """Return the number of rows of an array that fits.

        Raises:
            InputError: the dtype or the shape differs, or there is no row; the message names the field.
        """
        is_text = self.dtype == "string" and array.dtype.kind == "U"
        if array.dtype != self.numpy_dtype and not is_text:
            raise InputError(
                f"input {self.name!r} has dtype {array.dtype}, expected {self.dtype}",
                next_step=f"send {self.name!r} as {self.dtype}; values are never converted silently",
            )
        fits = array.ndim == len(self.shape) and all(
            size == wanted if wanted is not None else size >= 1
            for size, wanted in zip(array.shape, self.shape, strict=True)
        )
        if not fits:
            raise InputError(
                f"input {self.name!r} has shape {_shape_text(array.shape)}, expected {_shape_text(self.shape)}",
                next_step=f"send {self.name!r} with the batch as its first dimension and at least one row",
            )
        return int(array.shape[0]) if array.ndim else 1


@dataclass(frozen=True, slots=True)
class Signature:
    """The inputs and outputs of a model, each in the order of its graph; no name occurs twice, sides included."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    def __post_init__(self) -> None:
        names = [spec.name for spec in (*self.inputs, *self.outputs)]
        # The prediction log keeps inputs and outputs side by side, as columns of one table.
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise PackageError(
                f"cannot tell inputs and outputs apart: {', '.join(twice)} named more than once",
                next_step="give every input and output a name of its own",
            )

    @property
    def masked(self) -> tuple[str, ...]:
        """The inputs that may lack values: each has another beside it, "<name>_mask", that tells in which rows."""
        masks = {spec.name for spec in self.inputs if spec.dtype == "bool" and len(spec.shape) == 1}
        return tuple(spec.name for spec in self.inputs if f"{spec.name}_mask" in masks)

    @property
    def columns(self) -> tuple[str, ...]:
        """The inputs that are columns of a dataset: all but the masks."""
        masks = {f"{name}_mask" for name in self.masked}
        return tuple(spec.name for spec in self.inputs if spec.name not in masks)

    def inputs_from(self, rows: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Return the inputs among rows as a dataset gives them, with a full mask for a column that has none there.

        What is not there is left out: `check` tells.

        Raises:
            InputError: a value is missing, and the model does not provide for that.
        """
        masked = self.masked
        for name in set(self.columns) - set(masked):
            mask = rows.get(f"{name}_mask")
            if mask is not None and not mask.all():
                raise InputError(
                    f"input {name!r} has no value in row {int(np.flatnonzero(~mask)[0])}",
                    next_step="fill or remove such rows, or give the column an Impute in the model's preparation",
                )
        found = {spec.name: rows[spec.name] for spec in self.inputs if spec.name in rows}
        for name in masked:
            if name in rows and f"{name}_mask" not in rows:
                found[f"{name}_mask"] = np.ones(len(rows[name]), np.bool_)
        return found

    def check(self, arrays: Mapping[str, NDArray[Any]]) -> int:
        """Return the number of rows of inputs that fit.

        Raises:
            InputError: an input is missing, unknown, of another dtype or shape, or has another number of rows than the
                first; the message names the field, what was found and what was expected.
        """
        expected = [spec.name for spec in self.inputs]
        if missing := [name for name in expected if name not in arrays]:
            raise InputError(
                f"input {missing[0]!r} is missing: found {sorted(arrays)}, expected {expected}",
                next_step=f"send {missing[0]!r} too",
            )
        if unknown := [name for name in arrays if name not in expected]:
            raise InputError(
                f"input {unknown[0]!r} is unknown: the model takes {expected}", next_step=f"leave out {unknown[0]!r}"
            )
        rows = {spec.name: spec.check(arrays[spec.name]) for spec in self.inputs}
        first = expected[0]
        for name, count in rows.items():
            if count != rows[first]:
                raise InputError(
                    f"input {name!r} has {count} rows, {first!r} has {rows[first]}: expected the same number",
                    next_step="send one row of every input per record",
                )
        return rows[first]


def _shape_text(shape: tuple[int | None, ...]) -> str:
    return "[" + ", ".join("any" if size is None else str(size) for size in shape) + "]"
