from dataclasses import dataclass, replace

import pytest
import torch

from shoal.testing.strategy import ContractTask, make_rows
from shoal.train.averaging import apply_average, averaged, move_average
from shoal.train.building import build_state
from shoal.train.computing import compute_loss
from shoal.train.updating import update


@dataclass(frozen=True)
class Averaged(ContractTask):
    ema: float | None = 0.5


@pytest.fixture
def state():
    return build_state(Averaged(), seed=0, num_steps=4)


def weights(state):
    return {name: param.detach().clone() for name, param in state.module.named_parameters()}


def equal(one, other):
    return all(torch.equal(one[name], other[name]) for name in one)


def train(state, steps):
    for _ in range(steps):
        state.module.zero_grad()
        compute_loss(state, make_rows(8)).backward()
        update(state)
        state.position = replace(state.position, step=state.position.step + 1)


def test_the_average_follows_the_weights(state):
    expected = weights(state)
    for step in range(3):
        train(state, 1)
        decay = min(0.5, (1 + step) / (10 + step))
        for name, param in state.module.named_parameters():
            expected[name] = decay * expected[name] + (1 - decay) * param.detach()

    for name, value in state.extras["ema"].items():
        torch.testing.assert_close(value, expected[name])


def test_the_weights_come_back_bit_for_bit(state):
    train(state, 3)
    before = weights(state)

    with averaged(state):
        assert equal(state.extras["ema"], weights(state))

    assert equal(before, weights(state))


def test_they_come_back_after_an_error_too(state):
    train(state, 1)
    before = weights(state)

    with pytest.raises(RuntimeError), averaged(state):
        raise RuntimeError

    assert equal(before, weights(state))


def test_a_run_that_is_over_has_the_average_for_weights(state):
    train(state, 3)

    apply_average(state)

    assert equal(state.extras["ema"], weights(state))


def test_without_an_average_nothing_happens():
    state = build_state(ContractTask(), seed=0, num_steps=4)
    before = weights(state)

    move_average(state)
    with averaged(state):
        apply_average(state)

    assert state.extras == {}
    assert equal(before, weights(state))


def test_an_average_that_was_read_elsewhere_comes_to_its_weights(state):
    """As from a checkpoint, which is read into host memory."""
    state.module.to("meta")
    assert state.extras["ema"]["0.weight"].device.type == "cpu"

    move_average(state)

    assert {tensor.device.type for tensor in state.extras["ema"].values()} == {"meta"}
