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
