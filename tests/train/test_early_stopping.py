import math

import pytest

from shoal.base import ConfigError
from shoal.testing.strategy import ContractTask
from shoal.train.base import Position
from shoal.train.building import build_state
from shoal.train.early_stopping import EarlyStopping, best_step
from shoal.train.record import describe, revive


@pytest.fixture
def state():
    return build_state(ContractTask(), seed=0, num_steps=1)


def follow(stopping, state, losses, name="loss"):
    """After which validation it stops, counted from 1; None if it does not."""
    for number, loss in enumerate(losses, start=1):
        state.position = Position(step=10 * number)
        if stopping.should_stop({name: loss}, state):
            return number
    return None


def test_stops_when_nothing_gets_better_for_a_while(state):
    assert follow(EarlyStopping(patience=2), state, [3.0, 2.0, 2.5, 2.1, 1.0]) == 4
    assert best_step(state) == 20


def test_goes_on_while_it_gets_better(state):
    assert follow(EarlyStopping(patience=1), state, [3.0, 2.0, 1.0]) is None


def test_a_change_that_is_too_small_does_not_count(state):
    assert follow(EarlyStopping(patience=2, min_change=0.1), state, [1.0, 0.95, 0.92]) == 3
    assert best_step(state) == 10


def test_other_measures_than_the_loss_get_better_upwards(state):
    stopping = EarlyStopping(monitor="accuracy", patience=1)

    assert follow(stopping, state, [0.5, 0.6, 0.55], name="accuracy") == 3


def test_no_number_is_never_better(state):
    assert follow(EarlyStopping(patience=2), state, [math.nan, 1.0, math.nan, math.nan]) == 4
    assert best_step(state) == 20


def test_its_patience_survives_an_interruption(state):
    stopping = EarlyStopping(patience=2)
    follow(stopping, state, [1.0, 2.0])
    resumed = build_state(ContractTask(), seed=0, num_steps=1)

    resumed.extras.update({name: dict(kept) for name, kept in state.extras.items()})

    assert stopping.should_stop({"loss": 3.0}, resumed)


def test_before_the_first_validation_nothing_is_best(state):
    assert best_step(state) is None


def test_an_unknown_measure_is_named(state):
    with pytest.raises(ConfigError, match="'auc': validation measured loss"):
        EarlyStopping(monitor="auc").should_stop({"loss": 1.0}, state)


@pytest.mark.parametrize("wrong", [{"patience": 0}, {"min_change": -1.0}, {"mode": "down"}])
def test_settings_that_cannot_be_are_refused(wrong):
    with pytest.raises(ConfigError, match="cannot be"):
        EarlyStopping(**wrong)


def test_comes_back_from_a_record():
    stopping = EarlyStopping(monitor="accuracy", patience=7, mode="max")

    assert revive(describe(stopping), EarlyStopping) == stopping


def test_a_measure_that_is_not_there_is_told_with_those_that_are(state):
    with pytest.raises(ConfigError, match=r"stop early by 'acuracy'.*give monitor= one of these: accuracy, loss"):
        EarlyStopping(monitor="acuracy").should_stop({"loss": 1.0, "accuracy": 0.5}, state)
