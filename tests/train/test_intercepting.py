from dataclasses import dataclass

import pytest
import torch
from torch import nn

from shoal.testing.strategy import ContractTask, make_rows, make_state
from shoal.train.computing import compute_loss
from shoal.train.intercepting import intercepting
from shoal.train.task import Task


@dataclass(frozen=True)
class OwnCompute(ContractTask):
    def compute(self, module, batch):
        return module(*self.inputs(batch)).square().mean()


@dataclass(frozen=True, slots=True)
class Slotted(ContractTask):
    width: int = 4


class Stepping(nn.Module):
    """As much of a LightningModule as is asked for."""

    def __init__(self):
        super().__init__()
        self.inner = nn.LazyLinear(3)

    def training_step(self, batch, batch_idx):
        return self.inner(next(value for value in batch.values() if value.is_floating_point())).square().mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.mark.parametrize(("task", "name"), [(ContractTask(), "loss"), (Slotted(), "loss"), (OwnCompute(), "compute")])
def test_the_user_s_own_function_goes_through_the_watch(task, name):
    seen, state, batch = _watching(task)

    with intercepting(state, seen.watch):
        torch.manual_seed(0)
        watched = compute_loss(state, batch)
    torch.manual_seed(0)
    alone = compute_loss(state, batch)

    assert seen.names == [name]
    assert torch.equal(watched, alone)
    assert state.task is task


def test_a_loss_given_by_hand_is_the_place(monkeypatch):
    def error(outputs, target):
        return nn.functional.cross_entropy(outputs, target)

    rows = make_rows(8)
    name = next(name for name, value in rows.items() if value.is_floating_point())
    width = rows[name].shape[1]
    task = Task.of(
        nn.Linear(width, 10), inputs=name, target="label", loss=error, optimizer=lambda p: torch.optim.SGD(p, lr=0.1)
    )
    seen, state, batch = _watching(task)

    with intercepting(state, seen.watch):
        compute_loss(state, batch)

    assert seen.names == ["error"]


def test_a_lightning_module_s_training_step_is_the_place():
    module = Stepping()
    rows = make_rows(8)
    module.training_step(rows, batch_idx=0)
    seen, state, batch = _watching(Task.from_lightning(module))

    with intercepting(state, seen.watch):
        compute_loss(state, batch)
    compute_loss(state, batch)

    assert seen.names == ["training_step"]
    assert "training_step" not in vars(state.module)


def test_all_is_as_before_after_an_error():
    task = ContractTask()
    _, state, batch = _watching(task)

    with pytest.raises(ZeroDivisionError), intercepting(state, lambda *_: 1 / 0):
        compute_loss(state, batch)

    assert state.task is task


class _Seen:
    def __init__(self):
        self.names = []

    def watch(self, function, args, named):
        self.names.append(function.__name__)
        return function(*args, **named)


def _watching(task):
    return _Seen(), make_state(task), make_rows(8)
