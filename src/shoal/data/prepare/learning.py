"""One pass over one column: which operators can learn in it, what they must see, and how they learn from it.

Where several operators of a column learn, one pass is mostly enough: an imputed value is a known value times the number
of missing rows, and clipping at learned bounds moves whole bins. So `[Impute("median"), Clip(quantiles=...),
Standardise()]` learns from one reading exactly what three would have given. Another pass is needed only behind an
operator that has just learned to move every value (Standardise, MinMax), or by a given one that follows a Clip which
is still learning.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from shoal.base import InputError
from shoal.data.prepare.base import Cells, Operator, Values
from shoal.data.prepare.chain import Chain, apply_all
from shoal.data.prepare.seen_numbers import SeenNumbers
from shoal.data.prepare.seen_values import SeenValues
from shoal.data.schema import Column


@dataclass(slots=True)
class Tap:
    """A place in the chain where values are looked at: behind `through`, which follows the place before it."""

    through: list[Operator] = field(default_factory=list)
    learners: list[int] = field(default_factory=list)
    numbers: SeenNumbers | None = None
    values: SeenValues | None = None


class ColumnPass:
    """What one pass learns of one column: `update` with batches, `merge` with other readers' passes, then `finish`."""

    def __init__(self, chain: Chain) -> None:
        self._chain = chain
        self._columns = chain.columns()
        self._first = next(
            index for index, operator in enumerate(chain.operators) if operator.need(self._columns[index]) is not None
        )
        self.num_missing = 0
        self.taps = _taps(chain.operators, self._columns, self._first)

    def update(self, batch: dict[str, Values]) -> None:
        """Look at a batch.

        Raises:
            InputError: a value does not fit.
        """
        cells = apply_all(self._chain.name, self._chain.operators[: self._first], self._chain.cells(batch))
        if cells.valid is not None:
            self.num_missing += int((~cells.valid).sum())
            cells = Cells(cells.values[cells.valid])
        for tap in self.taps:
            cells = apply_all(self._chain.name, tap.through, cells)
            if tap.numbers is not None:
                tap.numbers.update(cells.values)
            if tap.values is not None:
                self._count(tap.values, cells.values)

    def _count(self, seen: SeenValues, values: Values) -> None:
        try:
            seen.update(values)
        except InputError as error:
            raise InputError(
                f"cannot learn of column {self._chain.name!r}: {error.message}", next_step=error.next_step
            ) from error

    def merge(self, other: "ColumnPass") -> "ColumnPass":
        """Return what both passes have seen together; neither is changed."""
        merged = ColumnPass(self._chain)
        merged.num_missing = self.num_missing + other.num_missing
        for tap, mine, theirs in zip(merged.taps, self.taps, other.taps, strict=True):
            if mine.numbers is not None and theirs.numbers is not None:
                tap.numbers = mine.numbers.merge(theirs.numbers)
            if mine.values is not None and theirs.values is not None:
                tap.values = mine.values.merge(theirs.values)
        return merged

    def finish(self) -> Chain:
        """Return the chain with what could be learned in this pass."""
        operators = list(self._chain.operators)
        # All rows without a value are one: it goes through the chain beside the data, and counts as many times.
        blank = _blank(self._columns[self._first])
        for tap in self.taps:
            blank = apply_all(self._chain.name, tap.through, blank)
            numbers = tap.numbers
            for index in tap.learners:
                operator, column = operators[index], self._columns[index]
                seen = numbers if operator.need(column) == "numbers" else tap.values
                assert seen is not None
                learned = operator.learned(self._with_blank(seen, blank), column)
                if learned.passes_on and numbers is not None:
                    numbers = learned.passed_on(numbers)
                blank = learned.apply(blank)
                operators[index] = learned
        return Chain(self._chain.column, tuple(operators))

    def _with_blank(self, seen: SeenNumbers | SeenValues, blank: Cells) -> SeenNumbers | SeenValues:
        if blank.valid is not None or self.num_missing == 0:
            return seen
        more = seen.copy()
        more.add_point(blank.values.tolist()[0], self.num_missing)
        return more


def _taps(operators: Sequence[Operator], columns: Sequence[Column], first: int) -> list[Tap]:
    taps = [Tap()]
    is_moved = False
    for index in range(first, len(operators)):
        operator, need = operators[index], operators[index].need(columns[index])
        if need is None:
            if is_moved:
                break
            if taps[-1].learners:
                taps.append(Tap())
            taps[-1].through.append(operator)
            continue
        if is_moved and need == "values":
            break
        tap = taps[-1]
        tap.learners.append(index)
        if need == "numbers":
            tap.numbers = tap.numbers or SeenNumbers()
        else:
            tap.values = tap.values or SeenValues()
        is_moved = is_moved or operator.passes_on
        if not (operator.fills_missing or operator.passes_on):
            break
    return [tap for tap in taps if tap.learners]


def _blank(column: Column) -> Cells:
    values: np.ndarray[Any, Any] = np.zeros((1, *column.shape), column.numpy_dtype)
    if column.dtype == "string":
        values[0] = None
    return Cells(values, np.zeros(1, np.bool_))
