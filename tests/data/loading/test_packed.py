import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.data import Column
from shoal.data.loading.packed import Packed, pack

TEXT = Column(name="text", dtype="string")
BLOB = Column(name="blob", dtype="binary")
TAGS = Column(name="tags", dtype="int16", is_list=True)


@given(rows=st.lists(st.none() | st.text(max_size=9), max_size=9))
def test_text_there_and_back(rows: list[str | None]) -> None:
    packed = pack(rows, TEXT)
    valid = np.array([row is not None for row in rows], np.bool_)

    assert packed.objects(TEXT, valid).tolist() == rows
    assert packed.arrow(TEXT, valid).to_pylist() == rows
    assert packed.lengths.tolist() == [len((row or "").encode()) for row in rows]


@given(rows=st.lists(st.none() | st.lists(st.integers(-9, 9), max_size=5), max_size=9))
def test_lists_there_and_back(rows: list[list[int] | None]) -> None:
    packed = pack(rows, TAGS)
    valid = np.array([row is not None for row in rows], np.bool_)

    assert packed.values.dtype == np.int16
    assert packed.arrow(TAGS, valid).to_pylist() == rows
    assert [None if row is None else row.tolist() for row in packed.objects(TAGS, valid)] == rows


@pytest.mark.parametrize(("column", "value"), [(BLOB, 255), (TAGS, -1)])
def test_padding_fills_every_row_up_to_the_longest(column: Column, value: int) -> None:
    packed = Packed(np.array([1, 2, 3, 4, 5, 6], column.dtype if column.is_list else "u1"), np.array([0, 2, 2, 6]))

    assert packed.padded(value).tolist() == [[1, 2, value, value], [value] * 4, [3, 4, 5, 6]]


def test_no_rows_and_empty_rows_are_padded_to_nothing() -> None:
    empty = np.empty(0, np.uint8)

    assert Packed(empty, np.array([0])).padded(0).shape == (0, 0)
    assert Packed(empty, np.array([0, 0, 0])).padded(0).shape == (2, 0)
