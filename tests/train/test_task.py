from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from shoal.testing.strategy import ContractTask, ThreadGroup, make_rows, train_once
from shoal.train.building import build_state
from shoal.train.collective import Collective
from shoal.train.metrics import accuracy
from shoal.train.record import describe
from shoal.train.task import Task


def make_adam(params):
    return torch.optim.Adam(params, lr=0.2)


def task_of(module):
    return Task.of(
        module,
        inputs="features",
        target="label",
        loss=F.cross_entropy,
        optimizer=make_adam,
        metrics={"accuracy": accuracy},
    )


def test_an_existing_module_is_trained_from_its_weights_and_left_as_it_is():
    module = nn.Linear(5, 3)
    before = module.weight.detach().clone()
    task = task_of(module)

    ((state, losses),) = ThreadGroup(1).run(
        lambda group: train_once(Collective(num_virtual=2), group, make_rows(), task)
    )

    assert len(losses) == 4
    assert torch.equal(module.weight, before)
    assert torch.equal(task.build().weight, before)
    assert not torch.equal(state.module.weight, before)


def test_a_function_makes_a_fresh_module():
    task = task_of(lambda: nn.Linear(5, 3))

    assert task.build() is not task.build()


def test_measures_compare_with_the_target():
    batch = make_rows(6)
    outputs = F.one_hot(batch["label"], 3).float()

    assert task_of(nn.Linear(5, 3)).metrics(outputs, batch)["accuracy"].value == 1.0


def test_several_inputs_come_in_the_order_of_their_names():
    task = Task.of(nn.Linear(5, 3), inputs=("b", "a"), target="label", loss=F.mse_loss, optimizer=make_adam)

    assert task.inputs({"a": torch.zeros(1), "b": torch.ones(1)}) == (torch.ones(1), torch.zeros(1))


def test_parameters_may_be_told_apart_by_name():
    class Grouped(ContractTask):
        def optimizers(self, module):
            return torch.optim.SGD([{"params": [module[0].weight]}, {"params": [module[0].bias], "lr": 0.5}], lr=0.1)

    state = build_state(Grouped(), seed=0, num_steps=1)

    assert [group["lr"] for group in state.optimizers[0].param_groups] == [0.1, 0.5]


def test_the_loss_is_measured_beside_the_metrics():
    task = task_of(nn.Linear(5, 3))
    rows = make_rows(6)
    module = task.build()

    found = task.measure(module, rows)

    assert found["loss"].weight == 6
    assert found["loss"].value == pytest.approx(F.cross_entropy(module(rows["features"]), rows["label"]).item())
    assert set(found) == {"loss", "accuracy"}


def test_settings_given_as_fields_are_recorded():
    @dataclass(frozen=True)
    class Clipped(ContractTask):
        clip_norm: float | None = 1.0

    assert describe(Clipped(clip_norm=2.0))["fields"]["clip_norm"] == 2.0
    assert "clip_norm" not in describe(ContractTask())["fields"]


def test_logging_outside_a_run_does_nothing():
    ContractTask().log("a", 1.0)
