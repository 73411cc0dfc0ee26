from dataclasses import replace

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from shoal.base import ConfigError, CorruptError, Ref, decode, encode
from shoal.testing.strategy import ContractTask
from shoal.train.callbacks import Callback
from shoal.train.early_stopping import EarlyStopping
from shoal.train.plan import Plan, open_rows


def test_a_plan_comes_back_from_its_record(make_plan):
    plan = make_plan(task=ContractTask(), every_s=2.5)

    assert Plan.from_json(decode(encode(plan.to_json()))) == plan


def test_a_plan_with_everything_comes_back_too(make_plan):
    plan = make_plan(
        task=ContractTask(),
        max_steps=7,
        accumulate=2,
        validate_every_steps=3,
        early_stopping=EarlyStopping(patience=2),
        callbacks=(Callback(),),
        keep=5,
        keep_s=60.0,
        checkpoints_to="s3://bucket/runs",
        schedule=((0, 16, 1.0), (4, 32, 1.5)),
    )

    again = Plan.from_json(decode(encode(plan.to_json())))

    assert replace(again, callbacks=()) == replace(plan, callbacks=())
    assert [type(callback) for callback in again.callbacks] == [Callback]


def test_a_loader_has_no_record_and_is_asked_for(make_plan):
    loader = DataLoader(TensorDataset(torch.zeros(4, 1)))
    config = decode(encode(make_plan(task=ContractTask(), train=loader).to_json()))

    with pytest.raises(ConfigError, match="train="):
        Plan.from_json(config)
    assert Plan.from_json(config, train=loader).train is loader


def test_steps_count_accumulated_batches_and_end_at_the_most(make_plan):
    assert make_plan(epochs=2, batch_size=16, accumulate=2).num_steps(53) == 4
    assert make_plan(epochs=2, batch_size=16, accumulate=2, max_steps=3).num_steps(53) == 3
    assert make_plan(num_parts=4, accumulate=2).step_parts == 8


def test_a_task_that_cannot_be_imported_is_asked_for(make_plan):
    class Local(ContractTask):
        pass

    plan = make_plan(task=Local())
    config = plan.to_json()

    with pytest.raises(ConfigError, match="task="):
        Plan.from_json(config)
    assert Plan.from_json(config, task=plan.task) == plan


def test_a_callback_that_cannot_be_built_again_is_left_out_with_a_warning(make_plan):
    class Local(Callback):
        def __init__(self, note):
            self.note = note

    local = Local("mine")
    config = decode(encode(make_plan(task=ContractTask(), callbacks=(Callback(), local)).to_json()))

    with pytest.warns(RuntimeWarning, match="without a callback: cannot build .*Local"):
        again = Plan.from_json(config)
    assert [type(callback) for callback in again.callbacks] == [Callback]
    assert Plan.from_json(config, callbacks=[local]).callbacks == (local,)


def test_another_task_than_the_recorded_is_refused(make_plan):
    config = make_plan(task=ContractTask()).to_json()

    with pytest.raises(ConfigError, match="was started with"):
        Plan.from_json(config, task=ContractTask(width=9))


@pytest.mark.parametrize(
    "wrong", [{"epochs": 0}, {"batch_size": -1}, {"threads": 0}, {"every_steps": 0}, {"accumulate": 0}, {"keep": 0}]
)
def test_a_wrong_number_is_named(make_plan, wrong):
    ((name, value),) = wrong.items()

    with pytest.raises(ConfigError, match=f"{name}={value}"):
        make_plan(**wrong)


def test_rows_that_are_not_what_they_were_are_refused(datasets):
    ref = Ref.of(datasets[0])

    with pytest.raises(CorruptError, match="started with b3:other"):
        open_rows(Ref(ref.kind, ref.address, "b3:other"))
