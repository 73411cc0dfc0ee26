"""Impute: a value for rows that have none."""

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, ClassVar, Literal, Self

import numpy as np

from shoal.base import SchemaError
from shoal.data.prepare.base import Cells, GraphWriter, Need, Operator, Values, Wires, single, wire_as
from shoal.data.prepare.seen_numbers import SeenNumbers
from shoal.data.prepare.seen_values import SeenValues
from shoal.data.schema import NUMBERS, Column

Strategy = Literal["mean", "median", "most_frequent", "constant"]


@dataclass(frozen=True, slots=True)
class Impute(Operator):
    """Fills missing values; NaN in a column of floats counts as missing too, as long as this comes first.

    "mean" and "median" give float32 (the median within 3%, exact for whole numbers up to 64). "most_frequent" (of
    equals the smallest) and "constant" leave text as text and whole numbers as int64. With `indicator`,
    "<column>_missing" is 1.0 in the rows that were filled and 0.0 elsewhere.
    """

    name: ClassVar[str] = "impute"

    strategy: Strategy = "median"
    value: str | int | float | None = None
    indicator: bool = False

    def __post_init__(self) -> None:
        if (self.strategy == "constant") != (self.value is not None):
            raise SchemaError(
                f"Impute({self.strategy!r}, value={self.value!r}): a value belongs to 'constant', and only to it",
                next_step="write Impute('constant', value=0), or leave the value out",
            )

    def need(self, column: Column) -> Need:  # noqa: ARG002
        """Nothing for a constant, else the distribution or the counts."""
        if self.strategy == "constant":
            return None
        return "values" if self.strategy == "most_frequent" else "numbers"

    @property
    def fills_missing(self) -> bool:
        """Always."""
        return True

    @property
    def names_missing(self) -> bool:
        """As declared."""
        return self.indicator

    def learned(self, seen: SeenNumbers | SeenValues, column: Column) -> Self:
        """Return itself as a constant."""
        value: str | int | float
        if isinstance(seen, SeenValues):
            ranked = seen.ranked()
            if not ranked:
                raise _nothing_seen(column, self.strategy)
            value = ranked[0][0]
        else:
            # `low` is infinite when nothing finite was seen: a mean of that would be no number.
            if not np.isfinite(seen.low):
                raise _nothing_seen(column, self.strategy)
            value = single(seen.mean_and_std()[0] if self.strategy == "mean" else seen.quantile(0.5))
        return replace(self, strategy="constant", value=value)

    def output(self, column: Column) -> Column:
        """The same column with a value in every row."""
        is_text = isinstance(self.value, str) or (self.strategy == "most_frequent" and column.dtype == "string")
        fits = column.dtype == "string" if is_text else column.dtype in (*NUMBERS, "bool")
        if column.shape or not fits:
            raise SchemaError(
                f"cannot apply {self} to column {column}: expected one {'text' if is_text else 'number'} a row",
                next_step="choose a strategy or a value that fits the column's type",
            )
        return Column(name=column.name, dtype=self._dtype(column.dtype))

    def _dtype(self, dtype: str) -> str:
        if dtype == "string":
            return dtype
        is_whole = self.strategy == "most_frequent" or isinstance(self.value, int)
        return "int64" if is_whole and dtype not in ("float16", "float32", "float64") else "float32"

    def apply(self, cells: Cells) -> Cells:
        """Fill; without a missing row only the type may change."""
        values = _as_type(cells.values, self._dtype(_name_of(cells.values.dtype)))
        if cells.valid is None or cells.valid.all():
            return Cells(values)
        filled = values.copy()
        filled[~cells.valid] = self.value
        return Cells(filled)

    def write(self, graph: GraphWriter, wires: Wires) -> Wires:
        """Where(valid, values, constant)."""
        dtype = self._dtype(wires.dtype)
        cast = wire_as(graph, wires, dtype)
        if wires.valid is None:
            return Wires(cast.values, dtype)
        constant = np.array(self.value, object if dtype == "string" else dtype)
        return Wires(graph.add("Where", wires.valid, cast.values, graph.constant(constant)), dtype)


# NumPy spells a type's name anew each time, which takes longer than filling a batch.
@lru_cache
def _name_of(dtype: np.dtype[Any]) -> str:
    return "string" if dtype.kind == "O" else str(dtype)


def _as_type(values: Values, dtype: str) -> Values:
    if dtype == _name_of(values.dtype):
        return values
    with np.errstate(over="ignore"):
        return values.astype(dtype)


def _nothing_seen(column: Column, strategy: str) -> SchemaError:
    return SchemaError(
        f"cannot learn the {strategy} of column {column.name!r}: no row has a (finite) value",
        next_step="give Impute('constant', value=...), or leave the column out",
    )
