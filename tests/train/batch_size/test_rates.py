import pytest
import torch

from shoal.testing.strategy import make_state
from shoal.train.base import Position
from shoal.train.batch_size.rates import num_ticks, scaled_rates, set_pace
from shoal.train.schedules import Schedule
from shoal.train.updating import update


@pytest.fixture
def state(task):
    return make_state(task)


def rates(state):
    return [group["lr"] for optimizer in state.optimizers for group in optimizer.param_groups]


def test_rates_are_scaled_for_the_step_alone(state):
    state.extras["batch_size"] = {"lr_factor": 1 / 3}
    before = rates(state)

    with scaled_rates(state):
        during = rates(state)

    assert during == [rate * (1 / 3) for rate in before]
    assert rates(state) == before


def test_rates_come_back_when_the_step_fails(state):
    state.extras["batch_size"] = {"lr_factor": 7.1}
    before = rates(state)

    with pytest.raises(RuntimeError), scaled_rates(state):
        raise RuntimeError

    assert rates(state) == before


def test_a_rate_that_is_a_tensor_stays_that_tensor(state):
    rate = torch.tensor(0.5)
    state.optimizers[0].param_groups[0]["lr"] = rate
    state.extras["batch_size"] = {"lr_factor": 3.0}

    with scaled_rates(state):
        assert state.optimizers[0].param_groups[0]["lr"].item() == 1.5

    assert state.optimizers[0].param_groups[0]["lr"] is rate
    assert rate.item() == 0.5


def test_without_a_governor_a_step_is_a_step(state):
    with scaled_rates(state):
        assert rates(state) == [0.05]
    assert num_ticks(state) == 1


@pytest.mark.parametrize("sizes", [[16] * 7, [16, 32, 64], [64, 64], [16, 24, 24, 40]])
def test_schedules_move_as_often_in_an_epoch_whatever_the_sizes(state, sizes):
    num_rows, ticks = 101, 0

    for size in sizes:
        set_pace(state, lr_factor=1.0, step_rows=size, first_rows=16, num_rows=num_rows)
        ticks += num_ticks(state)
        state.position = Position(row=min(state.position.row + size, num_rows))

    assert state.position.row == num_rows
    assert ticks == 7


def test_an_update_steps_with_the_scaled_rate_and_moves_schedules_by_rows(state):
    optimizer, used = state.optimizers[0], []
    optimizer.register_step_pre_hook(lambda *_: used.append(rates(state)[0]))
    state.schedulers[:] = [Schedule.of(torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.5))]
    set_pace(state, lr_factor=3.0, step_rows=48, first_rows=16, num_rows=101)

    update(state)

    assert used == [0.05 * 3.0]
    assert rates(state) == [pytest.approx(0.05 * 0.5**3)]
    assert state.schedulers[0].count == 3
