from dataclasses import dataclass, field

import pytest
import torch.nn.functional as F
from torch import nn

from shoal.base import ConfigError
from shoal.runtime import Code
from shoal.testing.strategy import ContractTask
from shoal.train.base import Strategy
from shoal.train.callbacks import Callback
from shoal.train.collective import Collective
from shoal.train.early_stopping import EarlyStopping
from shoal.train.record import describe, revive, task_code, warn_of_lost_settings
from shoal.train.task import Task


@dataclass(frozen=True)
class Wide(ContractTask):
    layers: tuple[int, ...] = (8, 8)


def test_a_task_comes_back_with_its_fields():
    task = ContractTask(width=9)

    assert revive(describe(task), Task) == task


def test_a_strategy_comes_back():
    assert revive(describe(Collective(num_virtual=3)), Strategy) == Collective(num_virtual=3)


def test_tuples_come_back_as_tuples(monkeypatch):
    import shoal.testing.strategy as module

    monkeypatch.setattr(module, "Wide", Wide, raising=False)
    described = describe(Wide()) | {"class": "shoal.testing.strategy:Wide"}

    assert revive(described, Task) == Wide(layers=(8, 8))


def test_a_revived_task_can_still_be_sent_to_a_worker():
    task = revive(describe(ContractTask()), Task)

    assert Code.of(task.build).payload


def test_a_class_that_is_gone_is_named():
    with pytest.raises(ConfigError, match=r"no_such_module:Net.*task="):
        revive({"class": "no_such_module:Net", "fields": {}}, Task)


def test_a_field_that_is_gone_is_told():
    with pytest.raises(ConfigError, match="depth"):
        revive({"class": "shoal.testing.strategy:ContractTask", "fields": {"depth": 2}}, Task)


def test_a_class_that_is_no_task_is_refused():
    with pytest.raises(ConfigError, match="no Task any more"):
        revive({"class": "shoal.train.collective:Collective", "fields": {}}, Task)


def test_a_field_without_json_form_is_named():
    @dataclass(frozen=True)
    class Holding(ContractTask):
        module: nn.Module = field(default_factory=nn.Flatten)

    with pytest.raises(ConfigError, match=r"'module' of .*Holding"):
        describe(Holding())


def test_code_of_a_task_changes_with_its_methods():
    class Other(ContractTask):
        def inputs(self, batch):
            return (batch["features"] * 2,)

    assert task_code(ContractTask()) == task_code(ContractTask(width=3)) != task_code(Other())


def test_code_of_a_wrapped_module_changes_with_its_loss():
    def task(loss):
        return Task.of(nn.Linear(1, 1), inputs="x", target="y", loss=loss, optimizer=ContractTask.optimizer)

    def doubled(outputs, target):
        return 2 * F.mse_loss(outputs, target)

    assert task_code(task(doubled)) == task_code(task(doubled)) != task_code(task(F.mse_loss))


def test_a_field_of_a_callback_without_json_form_is_named_with_what_to_do():
    @dataclass
    class Plotting(Callback):
        canvas: object = field(default_factory=nn.Flatten)

    with pytest.raises(ConfigError, match=r"'canvas' of .*Plotting: .* is a Flatten") as caught:
        describe(Plotting())

    assert "give canvas a number" in caught.value.next_step
    assert "in a method of" in caught.value.next_step
    assert "build()" not in caught.value.next_step


def test_a_setting_of_early_stopping_without_json_form_is_named():
    with pytest.raises(ConfigError, match=r"'monitor' of shoal.train.early_stopping.EarlyStopping: .* no JSON form"):
        describe(EarlyStopping(monitor=len))


def test_a_task_made_of_objects_is_asked_for_at_once():
    task = Task.of(nn.Linear(5, 3), inputs="features", target="label", loss=F.cross_entropy, optimizer=print)

    with pytest.raises(ConfigError, match=r"made of objects that no record can hold.*resume\(..., task=...\)"):
        revive(describe(task), Task)


def test_settings_of_a_plain_class_are_told_to_be_lost():
    class Bare(Task):
        build = inputs = loss = None

        def __init__(self, depth):
            self.depth = depth

    with pytest.warns(RuntimeWarning, match=r"the settings depth of .*Bare are not recorded.*will need task="):
        warn_of_lost_settings(Bare(3))


def test_settings_that_are_recorded_are_nothing_to_warn_of(recwarn):
    warn_of_lost_settings(Wide())

    assert not recwarn.list
