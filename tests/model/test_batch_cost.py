import pytest

from shoal.model.batch_cost import MOST_ROWS, choose, measure_batch_size


class Machine:
    """A model whose calls take known seconds by its own clock; remembers the sizes it was called with."""

    def __init__(self, seconds_of):
        self.seconds_of, self.now, self.sizes = seconds_of, 0.0, []

    def run(self, size):
        self.sizes.append(size)
        self.now += self.seconds_of(size)

    def clock(self):
        return self.now


def measured(seconds_of, most_rows=MOST_ROWS):
    machine = Machine(seconds_of)
    return measure_batch_size(machine.run, most_rows, clock=machine.clock), machine


def test_the_smallest_of_those_that_are_about_as_fast_is_chosen():
    assert choose({1: 10.0, 8: 1.02, 16: 1.0, 32: 1.01}) == 8


def test_a_cost_per_call_asks_for_large_batches():
    size, _ = measured(lambda rows: 1e-3 + rows * 1e-6)

    assert size == MOST_ROWS


def test_a_cost_per_row_alone_asks_for_one_and_is_not_measured_further():
    size, machine = measured(lambda rows: rows * 1e-3)

    assert size == 1
    assert max(machine.sizes) == 4


def test_a_slow_model_is_not_called_for_long():
    size, machine = measured(lambda rows: 0.9 + rows)

    assert size == 1
    assert machine.sizes == [1, 1]


def test_a_model_that_slows_down_beyond_its_cache_gets_what_fits():
    size, _ = measured(lambda rows: 1e-4 + rows * (1e-5 if rows <= 32 else 5e-5))

    assert size == 32


@pytest.mark.parametrize("most_rows", [1, 3, 100])
def test_no_more_rows_are_used_than_there_are(most_rows):
    _, machine = measured(lambda rows: 1e-3, most_rows)

    assert max(machine.sizes) <= most_rows


def test_one_slow_call_among_several_does_not_count():
    machine = Machine(lambda rows: 1e-3 + (0.005 if len(machine.sizes) % 3 == 0 else 0))

    assert measure_batch_size(machine.run, 64, clock=machine.clock) == 64
