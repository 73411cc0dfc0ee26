import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shoal.base import InputError
from shoal.data import Column, Schema
from shoal.data.columns import Decoded
from shoal.data.gather import RowGatherer, Stretch

SCHEMA = Schema((Column(name="x", dtype="int64", shape=(2,)), Column(name="y", dtype="float32", nullable=True)))


def gatherer(stretches: list[tuple[int, int]]) -> tuple[RowGatherer, np.ndarray, np.ndarray]:
    """Stretches of columns whose values tell the stretch and the row; every third y is null."""
    made, xs, valid = [], [], []
    for number, (start, length) in enumerate(stretches):
        rows = np.arange(start + length + 3)
        x = np.stack([np.full_like(rows, number), rows], axis=1)
        mask = None if number == 1 else rows % 3 != 0
        columns = {"x": Decoded(x, None), "y": Decoded(rows.astype(np.float32), mask)}
        made.append(Stretch(columns.__getitem__, start, start + length))
        xs.append(x[start : start + length])
        valid.append((np.ones_like(rows, bool) if mask is None else mask)[start : start + length])
    return RowGatherer(made, SCHEMA), np.concatenate(xs), np.concatenate(valid)


@given(
    stretches=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 6)), min_size=1, max_size=5),
    data=st.data(),
    in_memory=st.booleans(),
)
@settings(deadline=None, max_examples=30)
def test_takes_the_rows_that_a_concatenation_has(
    stretches: list[tuple[int, int]], data: st.DataObject, in_memory: bool
) -> None:
    rows_of, xs, valid = gatherer(stretches)
    wanted = np.array(data.draw(st.lists(st.integers(0, len(xs) - 1), max_size=20)) if len(xs) else [], np.int64)

    taken = (rows_of.in_memory() if in_memory else rows_of).take(wanted)

    assert np.array_equal(taken["x"], xs[wanted])
    assert np.array_equal(taken["y_mask"], valid[wanted])
    assert rows_of.num_rows == len(xs)


@pytest.mark.parametrize("rows", [[-1], [0, 5], [2**40]])
def test_refuses_rows_that_do_not_exist(rows: list[int]) -> None:
    with pytest.raises(InputError, match="of 5"):
        gatherer([(0, 2), (1, 3)])[0].take(np.array(rows))


def test_what_it_gives_is_the_callers_own() -> None:
    rows_of, _, _ = gatherer([(0, 4)])

    rows_of.take(np.array([1]))["x"][:] = -7

    assert rows_of.take(np.array([1]))["x"].min() >= 0
