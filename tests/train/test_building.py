from dataclasses import dataclass

import pytest
import torch

from shoal.base import ConfigError, InputError, UnsupportedError
from shoal.testing.strategy import ContractTask
from shoal.train.building import build_state, check_task, trained_module


@dataclass(frozen=True)
class Set(ContractTask):
    clip_norm: float | None = None
    autocast: str | None = None
    ema: float | None = None
    compile: bool = False


@pytest.mark.parametrize(
    "wrong", [{"clip_norm": 0.0}, {"ema": 1.0}, {"ema": 0.0}, {"autocast": "float16"}], ids=lambda wrong: str(wrong)
)
def test_settings_that_cannot_be_are_refused(wrong):
    (name,) = wrong

    with pytest.raises(ConfigError, match=name):
        check_task(Set(**wrong))


def test_the_same_seed_gives_the_same_state():
    one, same, other = (build_state(ContractTask(), seed=seed, num_steps=2).module for seed in (1, 1, 2))

    assert torch.equal(one[0].weight, same[0].weight)
    assert not torch.equal(one[0].weight, other[0].weight)


def test_a_task_without_optimiser_is_told_what_to_define():
    class Without(ContractTask):
        def optimizer(self, params):
            return super(ContractTask, self).optimizer(params)

    with pytest.raises(ConfigError, match="define optimizer"):
        build_state(Without(), seed=0, num_steps=1)


@pytest.mark.parametrize("made", [[], None, "adam"])
def test_what_is_no_optimiser_is_refused(made):
    class Wrong(ContractTask):
        def optimizer(self, params):
            return made

    with pytest.raises(ConfigError, match="expected one of torch's"):
        build_state(Wrong(), seed=0, num_steps=1)


def test_a_machine_without_compiler_is_told_so(monkeypatch):
    import torch._inductor.cpp_builder as builder
    from torch._inductor.exc import InvalidCxxCompiler

    def fail():
        raise InvalidCxxCompiler

    monkeypatch.setattr(builder, "get_cpp_compiler", fail)

    with pytest.raises(UnsupportedError, match="no C\\+\\+ compiler"):
        build_state(Set(compile=True), seed=0, num_steps=1)


def test_the_module_of_a_finished_run_has_the_averaged_weights():
    task = Set(ema=0.5)

    def load(state):
        for average in state.extras["ema"].values():
            average.fill_(2.0)

    torch.manual_seed(3)
    drawn = torch.rand(2)
    torch.manual_seed(3)
    module = trained_module(task, num_steps=4, load=load)

    assert all(torch.all(param == 2.0) for param in module.parameters())
    assert not module.training
    assert torch.equal(torch.rand(2), drawn)


def test_a_build_that_forgets_its_return_is_told():
    class Forgetful(ContractTask):
        def build(self):
            super().build()

    with pytest.raises(InputError, match=r"build\(\) returned NoneType") as caught:
        build_state(Forgetful(), seed=0, num_steps=1)
    assert "return a torch.nn.Module" in caught.value.next_step


def test_a_model_goes_to_its_device_before_it_gets_optimisers():
    state = build_state(ContractTask(), seed=1, num_steps=2, device=torch.device("meta"))

    assert {tensor.device.type for tensor in state.module.state_dict().values()} == {"meta"}
    assert state.optimizers[0].param_groups[0]["params"][0] is state.module[0].weight


def test_what_a_task_has_placed_itself_stays_there():
    class Placed(ContractTask):
        def build(self):
            module = super().build()
            module[0].to("meta")
            return module

    module = build_state(Placed(), seed=1, num_steps=2, device=torch.device("mps")).module

    assert [module[0].weight.device.type, module[4].weight.device.type] == ["meta", "cpu"]
