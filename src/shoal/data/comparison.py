"""Columns of numbers compared with one number, exactly: no value is rounded on the way, and none is out of range."""

import math
from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from shoal.data.canonical import canonical_array

COMPARISONS: dict[str, Callable[..., pa.Array]] = {
    "==": pc.equal,
    "!=": pc.not_equal,
    "<": pc.less,
    "<=": pc.less_equal,
    ">": pc.greater,
    ">=": pc.greater_equal,
}


def is_numeric(arrow_type: pa.DataType) -> bool:
    """Whether values of the type are whole numbers or floats."""
    return bool(pa.types.is_integer(arrow_type) or pa.types.is_floating(arrow_type))


def compared(values: pa.Array, comparison: str, number: int | float) -> pa.Array:
    """Return where the comparison holds, as Python says for each value and the number; null where a value is.

    In a column of floats narrower than 64 bits a float stands for what the column would store for it: a column of
    float32 in which 0.1 was stored equals 0.1.

    Args:
        values: whole numbers or floats of any width.
        comparison: ==, !=, <, <=, > or >=.
        number: of any size; infinite and NaN too.
    """
    if number != number:
        return _constant(values, comparison == "!=")
    below, above = _neighbours(number, values.type)
    # The number itself, where the type has it; else what lies next to it on the side that the comparison asks for.
    border = below
    if below != above:
        if comparison in ("==", "!="):
            return _constant(values, comparison == "!=")
        is_upper = comparison in ("<", "<=")
        comparison, border = ("<=", below) if is_upper else (">=", above)
    if border is None:
        # No value lies on that side.
        return _constant(values, False)
    if pa.types.is_integer(values.type):
        return COMPARISONS[comparison](values, pa.scalar(border, values.type))
    # Arrow compares no float16; wider, they are the same numbers.
    return COMPARISONS[comparison](values.cast(pa.float64()), pa.scalar(border, pa.float64()))


def among(values: pa.Array, numbers: Sequence[int | float]) -> pa.Array:
    """Return where a value is one of the numbers; null where it is."""
    kept = []
    for number in numbers:
        below, above = _neighbours(number, values.type) if number == number else (None, None)
        kept += [below] if below is not None and below == above else []
    wide = pa.float64() if pa.types.is_floating(values.type) else values.type
    found = pc.is_in(canonical_array(values.cast(wide)), value_set=canonical_array(pa.array(kept, wide)))
    return pc.if_else(values.is_valid(), found, pa.scalar(None, pa.bool_()))


def _neighbours(number: int | float, arrow_type: pa.DataType) -> tuple[int | float | None, int | float | None]:
    """Return the largest value of the type up to the number, and the smallest from it on; None where there is none."""
    if pa.types.is_integer(arrow_type):
        limits = np.iinfo(arrow_type.to_pandas_dtype())
        if number == math.inf or number > limits.max:
            return int(limits.max), None
        if number == -math.inf or number < limits.min:
            return None, int(limits.min)
        return math.floor(number), math.ceil(number)
    dtype = arrow_type.to_pandas_dtype()
    with np.errstate(over="ignore"):
        try:
            near = dtype(number)
        except OverflowError:
            near = dtype(math.inf if number > 0 else -math.inf)
    exact = float(near)
    is_rounded = isinstance(number, float) and (math.isfinite(exact) or not math.isfinite(number))
    if exact == number or is_rounded:
        return exact, exact
    other = float(np.nextafter(near, dtype(-math.inf if exact > number else math.inf)))
    return min(exact, other), max(exact, other)


def _constant(values: pa.Array, holds: bool) -> pa.Array:  # the one answer
    return pc.if_else(values.is_valid(), pa.scalar(holds), pa.scalar(None, pa.bool_()))
