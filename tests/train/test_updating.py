"""Whatever follows a gradient keeps the promise of bits: these run each feature on 1, 2, 3 and V workers."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import nn

from shoal.testing.strategy import ContractTask, ThreadGroup, make_rows, train_once
from shoal.train.building import build_state
from shoal.train.collective import Collective
from shoal.train.computing import compute_loss
from shoal.train.logbook import merge_books
from shoal.train.schedules import Schedule
from shoal.train.updating import end_epoch, update

NUM_VIRTUAL = 5


@dataclass(frozen=True)
class Clipped(ContractTask):
    clip_norm: float | None = 0.05


@dataclass(frozen=True)
class Averaged(ContractTask):
    ema: float | None = 0.9


@dataclass(frozen=True)
class Cast(ContractTask):
    autocast: str | None = "bfloat16"


@dataclass(frozen=True)
class Compiled(ContractTask):
    compile: bool = True


@dataclass(frozen=True)
class Grouped(ContractTask):
    def optimizers(self, module):
        groups = [
            {"params": [param for name, param in module.named_parameters() if name.endswith("weight")]},
            {"params": [param for name, param in module.named_parameters() if name.endswith("bias")], "lr": 0.5},
        ]
        return torch.optim.AdamW(groups, lr=0.05, weight_decay=0.1)


@dataclass(frozen=True)
class Several(ContractTask):
    def optimizer(self, params):
        first, *others = params
        return [torch.optim.SGD([first], lr=0.1, momentum=0.9), torch.optim.RMSprop(others, lr=0.01)]

    def scheduler(self, optimizer, num_steps):
        return torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.1, total_iters=num_steps)


@dataclass(frozen=True)
class Logging(ContractTask):
    def loss(self, outputs, batch):
        self.log("largest", outputs.max())
        return super().loss(outputs, batch)


@dataclass(frozen=True)
class Everything(Clipped, Averaged, Cast, Grouped, Logging):
    pass


def bits(state):
    held = {
        "weights": state.module.state_dict(),
        "average": state.extras.get("ema", {}),
        **{f"optimizer{at}": _flat(each.state_dict()) for at, each in enumerate(state.optimizers)},
    }
    return {
        f"{kind}.{name}": value.numpy().tobytes() for kind, values in held.items() for name, value in values.items()
    }


def _flat(state):
    return {
        f"{param}.{name}": value
        for param, values in state["state"].items()
        for name, value in values.items()
        if isinstance(value, torch.Tensor)
    }


def train(task, workers):
    return ThreadGroup(workers).run(
        lambda group: train_once(Collective(num_virtual=NUM_VIRTUAL), group, make_rows(), task)
    )


@pytest.mark.parametrize(
    "task",
    [Clipped(), Averaged(), Cast(), Grouped(), Several(), Logging(), Everything()],
    ids=lambda task: type(task).__name__,
)
def test_any_number_of_workers_gives_the_same_bits(task):
    ((alone, losses),) = train(task, 1)

    for workers in (2, 3, NUM_VIRTUAL):
        for state, member_losses in train(task, workers):
            assert member_losses == losses
            assert bits(state) == bits(alone)

    ((plain, _),) = train(ContractTask(), 1)
    assert isinstance(task, Averaged | Logging) or bits(plain) != bits(alone)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # torch's compiler upon itself
def test_a_compiled_model_gives_the_same_bits_on_any_number_of_workers():
    need_compiler()
    ((alone, losses),) = train(Compiled(), 1)

    for workers in (2, 3, NUM_VIRTUAL):
        for state, member_losses in train(Compiled(), workers):
            assert member_losses == losses
            assert bits(state) == bits(alone)


def need_compiler():
    import torch._inductor.cpp_builder as builder

    try:
        builder.get_cpp_compiler()
    except RuntimeError as error:
        pytest.skip(f"torch finds no C++ compiler: {error}")


def test_what_the_members_log_comes_to_the_same_mean():
    means = [merge_books(state.logged.pack() for state, _ in train(Logging(), workers)) for workers in (1, 2, 3)]

    assert means[0] == means[1] == means[2]
    assert means[0]["largest"].weight == 53


def one_step(task, change: Callable[[nn.Module], None] = lambda _: None):
    state = build_state(task, seed=0, num_steps=4)
    rows = make_rows(8)
    compute_loss(state, rows).backward()
    change(state.module)
    before = {name: param.detach().clone() for name, param in state.module.named_parameters()}
    update(state)
    return state, before


def test_gradients_are_scaled_down_to_the_norm_given():
    @dataclass(frozen=True)
    class Plain(Clipped):
        def optimizer(self, params):
            return torch.optim.SGD(params, lr=1.0)

    state, before = one_step(Plain())

    moved = torch.cat([(before[name] - param).flatten() for name, param in state.module.named_parameters()])
    assert moved.norm().item() == pytest.approx(0.05, rel=1e-3)


def test_every_optimiser_and_its_schedule_moves():
    state, before = one_step(Several())

    assert all(not torch.equal(before[name], param) for name, param in state.module.named_parameters())
    assert [each.param_groups[0]["lr"] for each in state.optimizers] == pytest.approx([0.0775, 0.00775])


def test_logged_values_count_once_the_step_is_done():
    state = build_state(Logging(), seed=0, num_steps=4)
    compute_loss(state, make_rows(8)).backward()
    assert not state.logged.tallies

    update(state)

    assert state.logged.tallies["largest"].mean.weight == 8


def test_schedules_by_epochs_move_at_their_end():
    @dataclass(frozen=True)
    class ByEpoch(ContractTask):
        def scheduler(self, optimizer, num_steps):
            return Schedule(torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5), every="epoch")

    state, _ = one_step(ByEpoch())
    assert state.optimizers[0].param_groups[0]["lr"] == 0.05

    end_epoch(state, {"loss": 1.0})

    assert state.optimizers[0].param_groups[0]["lr"] == 0.025
