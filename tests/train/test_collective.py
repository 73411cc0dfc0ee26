import pytest
import torch
from torch import nn

from shoal.base import ConfigError
from shoal.testing.strategy import ContractTask, StrategyContract, ThreadGroup, make_rows, train_once
from shoal.train.collective import Collective


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

    assert state.optimizer.param_groups[0]["lr"] == 0.05 * 0.5 ** len(losses)
