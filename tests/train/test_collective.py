import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from shoal.base import ConfigError
from shoal.testing.group import results_of
from shoal.testing.strategy import (
    ContractTask,
    StrategyContract,
    ThreadGroup,
    cut,
    make_rows,
    make_state,
    train_bits,
    train_once,
)
from shoal.train.base import PeerLostError
from shoal.train.collective import Collective
from shoal.train.group.solo import Solo


class TestCollectiveOfFour(StrategyContract):
    @pytest.fixture
    def strategy(self):
        return Collective(num_virtual=4)


class TestCollectiveOfSeven(StrategyContract):
    @pytest.fixture
    def strategy(self):
        return Collective(num_virtual=7)


def test_gradient_is_that_of_the_whole_batch():
    rows = make_rows(13)

    class Linear(ContractTask):
        def build(self):
            return nn.Linear(5, 3)

        def optimizer(self, params):
            return torch.optim.SGD(params, lr=0.1)

    ((together, _),) = ThreadGroup(1).run(lambda group: train_once(Collective(num_virtual=1), group, rows, Linear()))
    ((apart, _),) = ThreadGroup(1).run(lambda group: train_once(Collective(num_virtual=5), group, rows, Linear()))

    torch.testing.assert_close(together.module.state_dict(), apart.module.state_dict())


def test_number_of_virtual_workers_defaults_to_that_of_workers():
    assert Collective().num_parts(3) == 3


def test_no_virtual_workers_are_refused():
    with pytest.raises(ConfigError, match="num_virtual=0"):
        Collective(num_virtual=0)


def test_a_schedule_moves_once_per_step():
    class Scheduled(ContractTask):
        def scheduler(self, optimizer, num_steps):
            return torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.5)

    ((state, losses),) = ThreadGroup(1).run(
        lambda group: train_once(Collective(num_virtual=2), group, make_rows(), Scheduled())
    )

    assert state.optimizers[0].param_groups[0]["lr"] == 0.05 * 0.5 ** len(losses)


@pytest.mark.parametrize("kind", ["shared", "network"])
@pytest.mark.parametrize("workers", [2, 3])
def test_processes_get_the_bits_of_one(kind, workers):
    strategy = Collective(num_virtual=5)
    (alone,) = ThreadGroup(1).run(lambda group: train_bits(group, strategy))

    assert results_of(kind, workers, train_bits, strategy) == [alone] * workers


class Clipped(ContractTask):
    clip_norm = 0.01


@pytest.mark.parametrize("task", [ContractTask(), Clipped()])
def test_clipping_in_place_reaches_nobody_elses_gradient(task):
    strategy = Collective(num_virtual=4)
    (alone,) = ThreadGroup(1).run(lambda group: train_bits(group, strategy, task))

    assert ThreadGroup(3).run(lambda group: train_bits(group, strategy, task)) == [alone] * 3


def outcomes(group, num_virtual, rows, *, measure_noise):
    state = make_state(PlainTask())
    strategy = Collective(num_virtual=num_virtual)
    stepper = strategy.join(state, group, seed=3, num_parts=num_virtual, measure_noise=measure_noise)
    return stepper.step(cut(rows, 0, len(rows["label"]), num_virtual), note=group.rank + 5)


class PlainTask(ContractTask):
    def build(self):
        return nn.Linear(5, 3)


def test_noise_is_measured_alike_by_any_number_of_workers():
    rows = make_rows(16)
    (alone,) = ThreadGroup(1).run(lambda group: outcomes(group, 4, rows, measure_noise=True))

    together = ThreadGroup(3).run(lambda group: outcomes(group, 4, rows, measure_noise=True))

    assert {(each.part_square, each.whole_square) for each in together} == {(alone.part_square, alone.whole_square)}
    module = make_state(PlainTask()).module
    squares = []
    for part in [slice(0, 4), slice(4, 8), slice(8, 12), slice(12, 16), slice(0, 16)]:
        module.zero_grad()
        F.cross_entropy(module(rows["features"][part]), rows["label"][part]).backward()
        squares.append(sum(param.grad.double().square().sum().item() for param in module.parameters()))
    assert alone.part_square == pytest.approx(sum(squares[:4]) / 4, rel=1e-5)
    assert alone.whole_square == pytest.approx(squares[4], rel=1e-5)


def test_noise_that_nobody_asked_for_is_no_number():
    (found,) = ThreadGroup(1).run(lambda group: outcomes(group, 3, make_rows(12), measure_noise=False))

    assert math.isnan(found.part_square)
    assert math.isnan(found.whole_square)


def test_members_hear_each_others_notes_and_know_their_own_bad_parts():
    rows = make_rows(12)
    rows["features"][5] = torch.inf

    found = ThreadGroup(3).run(lambda group: outcomes(group, 3, rows, measure_noise=False))

    assert [each.notes for each in found] == [[5, 6, 7]] * 3
    assert [list(each.bad_parts) for each in found] == [[], [1], []]


def test_a_step_that_loses_a_peer_leaves_no_trace():
    state = make_state(ContractTask())
    before = {name: value.clone() for name, value in state.module.state_dict().items()}
    rows = make_rows(16)

    class Broken(Solo):
        size = 2

        def combine(self, num_bytes, reduce, note=0):
            raise PeerLostError("gone")

    stepper = Collective(num_virtual=2).join(state, Broken(), seed=3, num_parts=2)
    with pytest.raises(PeerLostError):
        stepper.step(cut(rows, 0, 16, 2))

    assert all(torch.equal(value, before[name]) for name, value in state.module.state_dict().items())
