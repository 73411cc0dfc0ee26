"""The operators of one column, one after the other: on a batch, and in a graph."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from shoal.base import InputError, SchemaError
from shoal.data.prepare.base import Cells, GraphWriter, Operator, Values, Wires
from shoal.data.schema import Column

_FLOATS = ("float16", "float32", "float64")


@dataclass(frozen=True)
class Chain:
    """A raw column and what is done to it, in order.

    `missing` is the name of the column that tells which rows were filled, if an operator asks for one.
    """

    column: Column
    operators: tuple[Operator, ...]

    @property
    def name(self) -> str:
        """The column's name, before and after."""
        return self.column.name

    # Kept: asked for in every batch.
    @cached_property
    def missing(self) -> str | None:
        """The name of the indicator's column."""
        return f"{self.name}_missing" if any(operator.names_missing for operator in self.operators) else None

    @cached_property
    def fills_missing(self) -> bool:
        """Whether rows without a value are provided for."""
        return any(operator.fills_missing for operator in self.operators)

    @property
    def takes_mask(self) -> bool:
        """Whether the graph has an input "<column>_mask": rows may lack a value, and no NaN could say so."""
        return self.column.nullable and self.fills_missing

    def columns(self) -> list[Column]:
        """Return the column before each operator, and behind the last.

        Raises:
            SchemaError: an operator does not fit what arrives there, or rows without a value are not provided for.
        """
        columns = [self.column]
        if self.fills_missing and self.column.dtype in _FLOATS:
            columns = [replace(self.column, nullable=True)]
        for operator in self.operators:
            columns.append(operator.output(columns[-1]))
        if columns[-1].nullable:
            raise SchemaError(
                f"column {self.name!r} has rows without a value, and nothing in its preparation fills them",
                next_step=f"put an Impute among the operators of {self.name!r}, or drop the column",
            )
        return columns

    def outputs(self) -> list[Column]:
        """Return the columns that it gives: the prepared one, and the indicator."""
        found = [replace(self.columns()[-1], id=None)]
        return [*found, Column(name=self.missing, dtype="float32")] if self.missing else found

    def cells(self, batch: Mapping[str, Values]) -> Cells:
        """Return the column's cells in a batch, checked, with NaN as missing where that is provided for.

        Raises:
            InputError: the column is not there, of another type or shape, or lacks values that nothing fills.
        """
        values, valid = _found(self.column, batch)
        missing = self._missing(values, valid)
        if missing is not None and missing.any():
            valid = ~missing if valid is None else valid & ~missing
        if valid is not None and not self.fills_missing:
            raise InputError(
                f"column {self.name!r} has no value in {int((~valid).sum())} of {len(values)} rows, and its "
                "preparation fills none",
                next_step=f"put an Impute among the operators of {self.name!r} and fit again, or leave these rows out",
            )
        return Cells(values, valid)

    def _missing(self, values: Values, valid: NDArray[np.bool_] | None) -> NDArray[np.bool_] | None:
        if self.column.dtype in _FLOATS:
            missing: NDArray[np.bool_] = np.isnan(values)
            # Of a tensor one NaN is enough.
            return missing if missing.ndim == 1 else np.logical_or.reduce(missing.reshape(len(values), -1), axis=1)
        # With a mask, whatever stands for a missing text has been told already.
        if values.dtype == object and valid is None and None in values.tolist():
            return np.fromiter((value is None for value in values), np.bool_, len(values))
        return None

    def apply(self, batch: Mapping[str, Values]) -> Iterator[tuple[str, Values]]:
        """Yield the prepared column of a batch, and the indicator."""
        cells = self.cells(batch)
        if self.missing is not None:
            valid = cells.valid
            filled = np.zeros(len(cells.values), np.float32) if valid is None else (~valid).astype(np.float32)
            yield self.missing, filled
        yield self.name, apply_all(self.name, self.operators, cells).values

    def write(self, graph: GraphWriter, values: str, mask: str | None) -> Iterator[tuple[str, Wires]]:
        """Add the nodes for this column, and yield the wires of what it gives."""
        valid = mask
        if self.fills_missing and self.column.dtype in _FLOATS:
            is_number = graph.add("Not", graph.add("IsNaN", values))
            valid = is_number if mask is None else graph.add("And", mask, is_number)
        if self.missing is not None:
            yield self.missing, self._indicator(graph, values, valid)
        wires = Wires(values, self.column.dtype, valid, self.column.shape)
        for operator, column in zip(self.operators, self.columns()[1:], strict=True):
            wires = replace(operator.write(graph, wires), shape=column.shape)
        yield self.name, wires

    def _indicator(self, graph: GraphWriter, values: str, valid: str | None) -> Wires:
        if valid is None:
            return Wires(graph.add("Expand", graph.constant(np.float32(0)), graph.add("Shape", values)), "float32")
        return Wires(graph.add("Cast", graph.add("Not", valid), to="float32"), "float32")


def apply_all(name: str, operators: Sequence[Operator], cells: Cells) -> Cells:
    """Apply operators one after the other; an InputError names the column."""
    try:
        for operator in operators:
            cells = operator.apply(cells)
    except InputError as error:
        raise InputError(
            f"cannot prepare column {name!r}: {error.message}",
            next_step=f"in the preparation of {name!r}: {error.next_step}",
        ) from error
    return cells


def _found(column: Column, batch: Mapping[str, Values]) -> tuple[Values, NDArray[np.bool_] | None]:
    if column.name not in batch:
        raise InputError(
            f"column {column.name!r} is missing: found {', '.join(sorted(batch))}",
            next_step=f"give rows as they are stored, with the column {column.name!r}",
        )
    values, mask = np.asarray(batch[column.name]), batch.get(f"{column.name}_mask")
    if values.dtype.kind == "U":
        values = values.astype(object)
    if values.dtype != column.numpy_dtype or values.shape[1:] != column.shape:
        raise InputError(
            f"column {column.name!r} is {values.dtype}{list(values.shape[1:])}, expected {column}",
            next_step="give rows as they are stored; values are never converted silently",
        )
    valid = None if mask is None else np.asarray(mask)
    return values, None if valid is None or valid.all() else valid
