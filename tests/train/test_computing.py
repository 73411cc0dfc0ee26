from dataclasses import dataclass

import pytest
import torch
from torch import nn

from shoal.testing.strategy import ContractTask, make_rows
from shoal.train.building import build_state
from shoal.train.computing import compute_loss, device_of, measuring, to_device
from shoal.train.task import Task


@dataclass(frozen=True)
class Cast(ContractTask):
    autocast: str | torch.dtype | None = "bfloat16"

    def build(self):
        return nn.Linear(5, 3)

    def loss(self, outputs, batch):
        self.log("is_bfloat16", float(outputs.dtype == torch.bfloat16))
        return super().loss(outputs, batch)


@pytest.mark.parametrize("dtype", ["bfloat16", torch.bfloat16])
def test_autocast_computes_in_the_type_asked_for(dtype):
    state = build_state(Cast(autocast=dtype), seed=0, num_steps=1)

    compute_loss(state, make_rows(4)).backward()
    state.logged.commit()

    assert state.logged.tallies["is_bfloat16"].mean.value == 1.0
    assert state.module.weight.grad.dtype == torch.float32


def test_a_task_may_compute_its_loss_in_its_own_way():
    class Own(ContractTask):
        def compute(self, module, batch):
            return module(batch["features"]).square().mean()

    state = build_state(Own(), seed=0, num_steps=1)

    assert compute_loss(state, make_rows(4)).item() > 0


def test_measuring_is_without_graph_and_dropout_and_then_over():
    state = build_state(Cast(), seed=0, num_steps=1)
    state.module.train()

    with measuring(state):
        assert not state.module.training
        outputs = state.module(make_rows(4)["features"])
    assert outputs.dtype == torch.bfloat16
    assert not outputs.requires_grad
    assert state.module.training


def test_a_batch_stays_where_its_model_is():
    rows = make_rows(4)

    assert to_device(nn.Linear(1, 1), rows) is rows
    assert device_of(nn.Flatten()) == torch.device("cpu")


def test_a_batch_follows_its_model():
    moved = to_device(nn.Linear(1, 1, device="meta"), make_rows(4))

    assert {column.device.type for column in moved.values()} == {"meta"}


def test_a_task_as_it_comes_computes_in_full():
    assert Task.autocast is None


def test_a_column_that_is_not_there_is_told_with_those_that_are():
    class Misspelt(ContractTask):
        def inputs(self, batch):
            return (batch["feature"],)

    state = build_state(Misspelt(), seed=0, num_steps=1)

    with pytest.raises(KeyError, match="feature") as raised:
        compute_loss(state, make_rows(4))

    assert raised.value.__notes__ == ["the batch has: features, label"]


def test_a_batch_of_tuples_is_told_as_one():
    state = build_state(ContractTask(), seed=0, num_steps=1)
    batch = {str(place): column for place, column in enumerate(make_rows(4).values())}

    with pytest.raises(KeyError) as raised:
        compute_loss(state, batch)

    assert "yields tuples: have it yield dicts of columns" in raised.value.__notes__[1]


def test_another_missing_key_is_left_as_it_is():
    class Own(ContractTask):
        def inputs(self, batch):
            raise KeyError("label")

    with pytest.raises(KeyError) as raised:
        compute_loss(build_state(Own(), seed=0, num_steps=1), make_rows(4))

    assert not hasattr(raised.value, "__notes__")
