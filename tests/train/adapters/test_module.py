import pytest
import torch
import torch.nn.functional as F
from torch import nn

from shoal.base import ConfigError
from shoal.train.adapters.module import name_of, record_settings
from shoal.train.building import build_state
from shoal.train.record import describe, revive, task_code
from shoal.train.task import Task


def make_schedule(optimizer, num_steps):
    return torch.optim.lr_scheduler.LinearLR(optimizer, total_iters=num_steps)


def task_of(**settings):
    return Task.of(
        nn.Linear(5, 3), inputs="features", target="label", loss=F.cross_entropy, optimizer=torch.optim.Adam, **settings
    )


def test_settings_and_schedule_are_used():
    state = build_state(task_of(scheduler=make_schedule, ema=0.9, clip_norm=1.0), seed=0, num_steps=3)

    assert len(state.schedulers) == 1
    assert set(state.extras["ema"]) == {"weight", "bias"}
    assert state.task.clip_norm == 1.0


def test_the_record_has_what_is_not_as_it_comes():
    fields = describe(task_of(scheduler=make_schedule, autocast=torch.bfloat16))["fields"]

    assert fields["scheduler"].endswith(":make_schedule")
    assert fields["autocast"] == "bfloat16"
    assert "ema" not in fields
    assert record_settings(task_of()) == {}


def test_it_cannot_be_built_from_its_record():
    with pytest.raises(ConfigError, match="pass the same task"):
        revive(describe(task_of()), Task)


def test_its_code_is_that_of_its_parts():
    def other(optimizer, num_steps):
        return torch.optim.lr_scheduler.ConstantLR(optimizer, total_iters=num_steps)

    codes = {task_code(task_of(**more)) for more in ({}, {"scheduler": make_schedule}, {"scheduler": other})}

    assert len(codes) == 3


def test_parts_have_names():
    assert name_of(nn.Linear(1, 1)) == "torch.nn.modules.linear:Linear"
    assert name_of(make_schedule).endswith(":make_schedule")
