"""What every operator of a preparation promises: it learns from statistics, works on batches, writes itself to ONNX.

An operator is a frozen dataclass. Declared, it says what to do; learned, it is the same class with every number given.
So `Standardise()` becomes `Standardise(mean=3.5, std=2.0)`, which may be written by hand as well.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar, Literal, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from shoal.base import SchemaError
from shoal.data.prepare.seen_numbers import SeenNumbers
from shoal.data.prepare.seen_values import SeenValues
from shoal.data.schema import NUMBERS, Column

Values = NDArray[Any]
# What an operator must have seen before it can be applied: nothing, the numbers' distribution, or each value's count.
Need = Literal["numbers", "values"] | None


@dataclass(frozen=True, slots=True)
class Cells:
    """One column of a batch between two operators: `values` [num_rows, ...], and which rows have one (None: all)."""

    values: Values
    valid: NDArray[np.bool_] | None = None


@dataclass(frozen=True, slots=True)
class Wires:
    """The same in a graph: the tensors of the values and of `valid` by name, the values' dtype, and a row's shape."""

    values: str
    dtype: str
    valid: str | None = None
    shape: tuple[int, ...] = ()


class GraphWriter(Protocol):
    """Takes the nodes of a graph; every call gives the name of the tensor that it made."""

    def add(self, operator: str, *inputs: str, domain: str = "", **attributes: object) -> str:
        """Add a node with one output; the attribute `to` takes NumPy's word for a type."""

    def constant(self, value: Values | np.generic) -> str:
        """Add a constant."""


class Operator(ABC):
    """One thing that is done to a column. Subclasses are frozen dataclasses; equal ones do the same."""

    name: ClassVar[str]

    def need(self, column: Column) -> Need:  # noqa: ARG002  # most ask nothing of the column
        """Return what it must have seen before it can be applied to such a column; None when every number is given."""
        return None

    @property
    def fills_missing(self) -> bool:
        """Whether rows without a value have one afterwards."""
        return False

    @property
    def names_missing(self) -> bool:
        """Whether "<column>_missing" shall tell which rows were filled."""
        return False

    def learned(self, seen: SeenNumbers | SeenValues, column: Column) -> Self:
        """Return itself with every number given, from all that was seen of the column as it arrives here.

        Depends on the multiset of values alone: not on their order, nor on how they were cut into batches.
        """
        raise NotImplementedError(f"{self.name} learns nothing")

    @property
    def passes_on(self) -> bool:
        """Whether `passed_on` can tell what the next operator would see behind it, without reading the data again."""
        return False

    def passed_on(self, seen: SeenNumbers) -> SeenNumbers:
        """Return what the next operator would have seen behind this one, once it has learned."""
        raise NotImplementedError(f"{self.name} does not tell")

    @abstractmethod
    def output(self, column: Column) -> Column:
        """Return the column as it leaves.

        Raises:
            SchemaError: it cannot be done to such a column.
        """

    @abstractmethod
    def apply(self, cells: Cells) -> Cells:
        """Return the cells of a batch as they leave; a pure function of each row, that never writes to its input."""

    @abstractmethod
    def write(self, graph: GraphWriter, wires: Wires) -> Wires:
        """Add the nodes that compute what `apply` does, bit for bit unless the operator says otherwise."""


def as_float32(values: Values) -> Values:
    """Return numbers as float32, as ONNX's Cast rounds them; beyond its range they are infinite."""
    if values.dtype == np.float32:
        return values
    with np.errstate(over="ignore"):
        return values.astype(np.float32)


def wire_as(graph: GraphWriter, wires: Wires, dtype: str) -> Wires:
    """Return the wires with their values cast, where they are of another type."""
    if wires.dtype == dtype:
        return wires
    return Wires(graph.add("Cast", wires.values, to=dtype), dtype, wires.valid, wires.shape)


def single(value: float) -> float:
    """Round a number to float32, in which all arithmetic is done, and return it as Python's."""
    with np.errstate(over="ignore"):
        # Adding zero turns -0.0 into 0.0, about whose order NumPy and ONNX Runtime may differ.
        return float(np.float32(value) + np.float32(0))


def check_number(column: Column, operator: str, *, scalar: bool = False) -> None:
    """Refuse a column that does not hold numbers (or booleans), or tensors of them where `scalar` asks for one a row.

    Raises:
        SchemaError: naming the column and what fits it.
    """
    if column.dtype not in (*NUMBERS, "bool"):
        raise SchemaError(
            f"cannot apply {operator} to column {column.name!r} of type {column.dtype}: expected numbers",
            next_step=f"give {column.name!r} an Encode or HashBucket first, or convert it in the source",
        )
    if scalar and column.shape:
        raise SchemaError(
            f"cannot apply {operator} to column {column.name!r} of shape {list(column.shape)}: expected one value a "
            "row",
            next_step=f"leave {operator} out for {column.name!r}, or store its parts as columns",
        )


def check_increasing(numbers: Sequence[float], what: str) -> None:
    """Refuse numbers that do not grow from each to the next, NaN included."""
    if any(not low < high for low, high in pairwise(numbers)):
        raise SchemaError(f"{what}={list(numbers)} must be increasing", next_step="sort them, and name each once")
