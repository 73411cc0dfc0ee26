import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.serve.versions.cost import BatchCost

LINE = [(1, 0.0012), (8, 0.0026), (32, 0.0074)]  # 1 ms + 0.2 ms a row


def test_timings_on_a_line_give_the_line():
    cost = BatchCost(LINE)

    assert cost.predict_s(16) == pytest.approx(0.0042)


def test_a_batch_is_as_large_as_the_budget_allows():
    assert BatchCost(LINE).rows_within(0.005, 1000) == 20


def test_at_least_one_row_goes_whatever_the_budget():
    assert BatchCost(LINE).rows_within(0.0001, 1000) == 1


def test_a_free_model_is_held_by_the_limit_alone():
    assert BatchCost([(1, 0.001), (32, 0.001)]).rows_within(0.005, 64) == 64


def test_before_any_measurement_rows_go_one_by_one():
    cost = BatchCost()

    assert cost.rows_within(1.0, 1000) == 1
    assert cost.predict_s(10) == 0


def test_the_first_live_batch_is_believed_when_nothing_was_measured():
    cost = BatchCost()

    cost.observe(4, 0.004)

    assert cost.predict_s(10) == pytest.approx(0.01)


def test_a_slower_machine_makes_batches_smaller():
    cost = BatchCost(LINE)

    for _ in range(200):
        cost.observe(8, 2 * 0.0026)

    assert cost.predict_s(8) == pytest.approx(2 * 0.0026, rel=0.01)
    assert cost.rows_within(0.005, 1000) < 10


def test_one_slow_batch_is_not_believed_at_once():
    cost = BatchCost(LINE)

    cost.observe(8, 10.0)

    assert cost.predict_s(8) < 2 * 0.0026


@given(
    timings=st.lists(st.tuples(st.integers(1, 64), st.floats(1e-6, 1)), max_size=5),
    batches=st.lists(st.tuples(st.integers(1, 1024), st.floats(1e-6, 10)), max_size=20),
    budget_s=st.floats(1e-4, 1),
)
def test_whatever_was_measured_the_cap_is_between_one_and_the_limit(timings, batches, budget_s):
    cost = BatchCost(timings)
    for num_rows, seconds in batches:
        cost.observe(num_rows, seconds)

    assert 1 <= cost.rows_within(budget_s, 1024) <= 1024
    assert cost.predict_s(2) >= cost.predict_s(1) >= 0
