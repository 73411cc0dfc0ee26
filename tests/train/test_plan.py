import pytest

from shoal.base import ConfigError, CorruptError, Ref, decode, encode
from shoal.testing.strategy import ContractTask
from shoal.train.plan import Plan, open_rows


def test_a_plan_comes_back_from_its_record(make_plan):
    plan = make_plan(task=ContractTask(), every_s=2.5)

    assert Plan.from_json(decode(encode(plan.to_json()))) == plan


def test_a_task_that_cannot_be_imported_is_asked_for(make_plan):
    class Local(ContractTask):
        pass

    plan = make_plan(task=Local())
    config = plan.to_json()

    with pytest.raises(ConfigError, match="task="):
        Plan.from_json(config)
    assert Plan.from_json(config, task=plan.task) == plan


def test_another_task_than_the_recorded_is_refused(make_plan):
    config = make_plan(task=ContractTask()).to_json()

    with pytest.raises(ConfigError, match="was started with"):
        Plan.from_json(config, task=ContractTask(width=9))


@pytest.mark.parametrize("wrong", [{"epochs": 0}, {"batch_size": -1}, {"threads": 0}, {"every_steps": 0}])
def test_a_wrong_number_is_named(make_plan, wrong):
    ((name, value),) = wrong.items()

    with pytest.raises(ConfigError, match=f"{name}={value}"):
        make_plan(**wrong)


def test_rows_that_are_not_what_they_were_are_refused(datasets):
    ref = Ref.of(datasets[0])

    with pytest.raises(CorruptError, match="started with b3:other"):
        open_rows(Ref(ref.kind, ref.address, "b3:other"))
