import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from shoal.base import SchemaError
from shoal.data.statistics.column_profile import ColumnProfile


def number(values: np.ndarray) -> ColumnProfile:
    column = ColumnProfile("x", "number")
    column.add_numbers(values)
    return column


def test_counts_missing_numbers_as_nulls() -> None:
    column = number(np.array([1.0, np.nan, 3.0]))

    assert (column.count, column.nulls, column.minimum, column.maximum, column.mean) == (2, 1, 1.0, 3.0, 2.0)


def test_of_nothing_knows_nothing() -> None:
    column = number(np.array([], np.float32))

    assert column.minimum is None
    assert math.isnan(column.mean)
    assert math.isnan(column.quantile(0.5))


@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
@given(data=st.data())
@settings(deadline=None, max_examples=20)
def test_bytes_are_counted_as_any_other_number(dtype: type, data: st.DataObject) -> None:
    values = data.draw(hnp.arrays(dtype, st.integers(0, 100)))

    quick, slow = number(values), number(values.astype(np.float32))

    assert np.array_equal(quick.histogram, slow.histogram)
    assert (quick.count, quick.sum_units, quick.minimum, quick.maximum) == (
        slow.count,
        slow.sum_units,
        slow.minimum,
        slow.maximum,
    )


def test_infinities_are_counted_but_not_averaged() -> None:
    column = number(np.array([1.0, 3.0, np.inf, -np.inf, 1e300]))

    assert column.count == 5
    assert column.mean == 2.0


def test_quantile_never_leaves_the_range_of_the_values() -> None:
    column = number(np.array([100.0, 101.0, 102.0]))

    assert column.quantile(0.0) >= 100.0
    assert column.quantile(1.0) <= 102.0


def test_text_has_categories() -> None:
    column = ColumnProfile("colour", "category")

    column.add_texts(np.array(["red", "blue", "red"], dtype=object), nulls=1)

    assert column.categories == {"red": 2, "blue": 1}
    assert (column.count, column.nulls, column.num_distinct, column.other) == (3, 1, 2, 0)


def test_merging_keeps_both_sides_unchanged() -> None:
    left, right = number(np.array([1.0])), number(np.array([5.0]))

    merged = left.merge(right)

    assert (merged.count, merged.minimum, merged.maximum) == (2, 1.0, 5.0)
    assert (left.count, left.maximum, right.count, right.minimum) == (1, 1.0, 1, 5.0)


def test_refuses_to_merge_different_kinds() -> None:
    with pytest.raises(SchemaError, match="'colour'"):
        number(np.array([1.0])).merge(ColumnProfile("colour", "category"))


def test_counts_rows_not_pixels() -> None:
    column = ColumnProfile("image", "number", values_per_row=12)

    column.add_numbers(np.zeros((5, 12), np.uint8))

    assert (column.count, column.num_rows) == (60, 5)
