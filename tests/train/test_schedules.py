import pytest
import torch

from shoal.base import ConfigError
from shoal.train.schedules import Schedule


@pytest.fixture
def optimizer():
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)


def halving(optimizer):
    return torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)


def rates(schedule, optimizer, *, steps, epochs, value=1.0):
    found = []
    for _ in range(epochs):
        for _ in range(steps):
            optimizer.step()
            schedule.after_step()
        schedule.after_epoch({"loss": value})
        found.append(optimizer.param_groups[0]["lr"])
    return found


def test_a_plain_scheduler_moves_after_each_step(optimizer):
    assert rates(Schedule.of(halving(optimizer)), optimizer, steps=2, epochs=2) == [0.25, 0.0625]


def test_one_for_epochs_moves_after_each_epoch(optimizer):
    assert rates(Schedule(halving(optimizer), every="epoch"), optimizer, steps=2, epochs=2) == [0.5, 0.25]


def test_a_frequency_leaves_some_out(optimizer):
    schedule = Schedule(halving(optimizer), every="epoch", frequency=2)

    assert rates(schedule, optimizer, steps=1, epochs=5) == [1.0, 0.5, 0.5, 0.25, 0.25]


def test_a_plateau_looks_at_the_validation(optimizer):
    schedule = Schedule.of(torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.1, patience=1))

    assert rates(schedule, optimizer, steps=1, epochs=3) == [1.0, 1.0, 0.1]


def test_a_plateau_without_its_measure_says_what_there_is(optimizer):
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer)

    with pytest.raises(ConfigError, match="'auc': validation measured loss"):
        Schedule(scheduler, every="epoch", monitor="auc").after_epoch({"loss": 1.0})


def test_a_plateau_at_each_step_is_refused(optimizer):
    with pytest.raises(ConfigError, match='every="epoch"'):
        Schedule(torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer), every="step")


def test_goes_on_where_its_state_was_taken(optimizer):
    schedule = Schedule(halving(optimizer), every="epoch", frequency=2)
    rates(schedule, optimizer, steps=1, epochs=3)
    other = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    resumed = Schedule(halving(other), every="epoch", frequency=2)

    resumed.load_state_dict(schedule.state_dict())
    other.load_state_dict(optimizer.state_dict())

    assert rates(resumed, other, steps=1, epochs=2) == rates(schedule, optimizer, steps=1, epochs=2) == [0.25, 0.25]
