import math
from dataclasses import dataclass
from itertools import chain

import pytest
import torch

from shoal.base import InputError
from shoal.testing.strategy import ContractTask, ThreadGroup, make_rows
from shoal.train.base import PeerLostError
from shoal.train.building import build_state
from shoal.train.group.solo import Solo
from shoal.train.metrics import Mean, accuracy
from shoal.train.validating import Validator, share_logged


class Rows:
    """A feed of rows in memory."""

    def __init__(self, num_rows):
        self.num_rows = num_rows
        self._rows = make_rows(num_rows)
        self.read = []

    def stretch(self, epoch, first, size, part, num_parts):
        self.read.append(first)
        return {name: column[first : first + size] for name, column in self._rows.items()}

    def row_numbers(self, epoch, first, size):
        raise NotImplementedError


@dataclass(frozen=True)
class Measured(ContractTask):
    """Draws while it is measured, and logs what it drew."""

    def metrics(self, outputs, batch):
        self.log("drawn", torch.rand(()))
        return {"accuracy": accuracy(outputs, batch["label"])}


def state_of(task):
    return build_state(task, seed=0, num_steps=1)


def test_each_batch_is_announced():
    announced = []

    Validator(Rows(53), batch_size=16, seed=7).run(
        state_of(Measured()), Solo(), before_batch=lambda: announced.append(1)
    )

    assert len(announced) == 4


@pytest.mark.parametrize("workers", [2, 3, 5])
def test_the_numbers_are_the_same_bits_for_any_number_of_members(workers):
    alone = Validator(Rows(53), batch_size=4, seed=7).run(state_of(Measured()), Solo())

    found = ThreadGroup(workers).run(
        lambda group: Validator(Rows(53), batch_size=4, seed=7).run(state_of(Measured()), group)
    )

    assert found == [alone] * workers
    assert set(alone) == {"accuracy", "drawn", "loss"}


def test_each_member_reads_its_share_alone():
    def run(group):
        feed = Rows(53)
        Validator(feed, batch_size=4, seed=7).run(state_of(Measured()), group)
        return feed.read

    shares = ThreadGroup(3).run(run)

    assert sorted(chain.from_iterable(shares)) == list(range(0, 53, 4))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_the_loss_is_the_mean_over_the_rows():
    state = state_of(Measured())
    state.module.eval()
    rows = make_rows(53)
    expected = state.task.loss(state.module(rows["features"]), rows).item()

    found = Validator(Rows(53), batch_size=10, seed=7).run(state, Solo())

    assert found["loss"] == pytest.approx(expected, rel=1e-6)


def test_the_model_goes_on_as_it_was():
    state = state_of(Measured())
    state.module.train()
    before = {name: value.clone() for name, value in state.module.state_dict().items()}

    Validator(Rows(20), batch_size=10, seed=7).run(state, Solo())

    assert state.module.training
    assert all(torch.equal(value, before[name]) for name, value in state.module.state_dict().items())


def test_the_average_of_the_weights_is_what_is_measured():
    @dataclass(frozen=True)
    class Averaged(Measured):
        ema: float | None = 0.5

    state = state_of(Averaged())
    before = {name: param.detach().clone() for name, param in state.module.named_parameters()}
    for value in state.extras["ema"].values():
        value.zero_()

    found = Validator(Rows(20), batch_size=10, seed=7).run(state, Solo())

    assert found["loss"] == pytest.approx(math.log(3), rel=1e-6)
    assert all(torch.equal(param, before[name]) for name, param in state.module.named_parameters())


def test_a_member_that_is_lost_leaves_the_state_as_it_was():
    class Lost(Solo):
        def share(self, data):
            raise PeerLostError

    state = state_of(Measured())
    state.module.train()
    state.logged.add("a", Mean(1.0, 1.0))

    for call in (
        lambda: Validator(Rows(20), batch_size=10, seed=7).run(state, Lost()),
        lambda: share_logged(state, Lost()),
    ):
        with pytest.raises(PeerLostError):
            call()

    assert state.module.training
    assert share_logged(state, Solo()) == {"a": 1.0}


def test_what_members_logged_is_shared():
    def run(group):
        state = state_of(Measured())
        state.logged.add("a", Mean(float(group.rank), 1.0))
        return share_logged(state, group)

    assert ThreadGroup(3).run(run) == [{"a": 1.0}] * 3


@pytest.mark.parametrize("value", [0.5, torch.tensor(0.5), None], ids=["float", "tensor", "none"])
def test_a_measure_without_its_number_of_rows_is_refused(value):
    class Plain(ContractTask):
        def metrics(self, outputs, batch):
            return {"accuracy": value}

    with pytest.raises(InputError, match=r"measure 'accuracy': it is a \w+.*expected a shoal.train.Metric"):
        Validator(Rows(4), batch_size=4, seed=7).run(state_of(Plain()), Solo())


def test_measures_that_are_no_dict_are_refused():
    class Nothing(ContractTask):
        def metrics(self, outputs, batch):
            pass

    with pytest.raises(InputError, match="metrics returned a NoneType, expected a dict"):
        Validator(Rows(4), batch_size=4, seed=7).run(state_of(Nothing()), Solo())


def test_a_column_that_a_measure_misspells_is_told_with_those_that_are_there():
    class Misspelt(ContractTask):
        def metrics(self, outputs, batch):
            return {"accuracy": accuracy(outputs, batch["labels"])}

    with pytest.raises(KeyError) as raised:
        Validator(Rows(4), batch_size=4, seed=7).run(state_of(Misspelt()), Solo())

    assert raised.value.__notes__ == ["the batch has: features, label"]
