import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.serve.replicas.portions import choose_portion, cut


@pytest.mark.parametrize(
    ("per_row", "portion"),
    [
        ({1: 265, 4: 234, 8: 240, 32: 262}, 4),
        ({1: 265, 4: 250, 8: 240, 32: 262}, 8),
        ({1: 265, 4: 234, 8: 240, 32: 238}, None),
        ({1: 265, 4: 120, 8: 80, 32: 60}, None),
        ({1: 100, 4: 200, 8: 200, 32: 200}, None),
        ({1: 265}, None),
        ({}, None),
    ],
)
def test_large_batches_are_cut_where_that_is_quicker(per_row, portion):
    timings = [(rows, rows * cost * 1e-6) for rows, cost in per_row.items()]

    assert choose_portion(timings) == portion


@given(num_rows=st.integers(1, 2000), portion=st.integers(1, 64))
def test_portions_hold_every_row_once_and_are_alike(num_rows, portion):
    portions = cut(num_rows, portion)

    assert [row for each in portions for row in range(num_rows)[each]] == list(range(num_rows))
    sizes = {each.stop - each.start for each in portions}
    assert max(sizes) <= portion
    assert max(sizes) - min(sizes) <= 1
