import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from shoal.data.sampling.in_blocks import BlockOrder


class Squares(BlockOrder):
    def __init__(self, num_rows: int, block_rows: int) -> None:
        super().__init__(num_rows, block_rows)
        self.computed: list[tuple[int, int, int]] = []

    def compute(self, epoch: int, start: int, stop: int) -> NDArray[np.int64]:
        self.computed.append((epoch, start, stop))
        return np.arange(start, stop) ** 2 + epoch


@given(num_rows=st.integers(0, 60), block_rows=st.integers(1, 20), cuts=st.lists(st.integers(0, 60), max_size=5))
def test_any_cuts_join_to_the_whole(num_rows: int, block_rows: int, cuts: list[int]) -> None:
    order = Squares(num_rows, block_rows)
    borders = [0, *sorted(cut for cut in cuts if cut <= num_rows), num_rows + 3]

    rows = np.concatenate([order.rows(2, start, stop) for start, stop in itertools.pairwise(borders)])

    assert np.array_equal(rows, np.arange(num_rows) ** 2 + 2)


def test_a_block_is_computed_once_while_it_is_read() -> None:
    order = Squares(100, 10)

    for start in range(0, 20, 2):
        order.rows(0, start, start + 2)

    assert order.computed == [(0, 0, 10), (0, 10, 20)]


def test_nobody_can_write_into_the_block() -> None:
    rows = Squares(100, 10).rows(0, 2, 5)

    with pytest.raises(ValueError, match="read-only"):
        rows[0] = 1
