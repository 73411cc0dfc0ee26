from dataclasses import replace
from types import SimpleNamespace

import pytest

from shoal.train.checkpoint import newest_checkpoint
from shoal.train.reports import Saved
from shoal.train.worker.checkpoints import Checkpoints


@pytest.fixture
def begin(make_plan, state, tmp_path):
    made = []

    def make(saved_step=-1, **changes):
        told = []
        kit = SimpleNamespace(
            plan=make_plan(**changes),
            orders=SimpleNamespace(checkpoints=str(tmp_path / "kept"), saving_s=600.0),
            environment={},
            state=state,
            tell=told.append,
        )
        made.append(Checkpoints(kit, saved_step))
        return made[-1], told

    yield make
    for checkpoints in made:
        checkpoints.close()


@pytest.mark.parametrize(
    ("saved", "step", "is_due"), [(-1, 4, False), (-1, 5, True), (5, 9, False), (5, 10, True), (4, 7, True)]
)
def test_they_are_due_by_steps_also_where_another_worker_missed_one(begin, saved, step, is_due):
    checkpoints, _ = begin(saved, every_steps=5)

    assert checkpoints.is_due(step) == is_due


def test_they_are_due_by_time(begin):
    assert begin(every_s=0.0)[0].is_due(1)
    assert not begin(every_s=1e6)[0].is_due(1)


def test_without_settings_none_is_due(begin):
    assert not begin()[0].is_due(10**9)


def test_one_is_durable_after_the_wait_and_told_with_its_cost(begin, state, tmp_path):
    checkpoints, told = begin()
    state.position = replace(state.position, step=3)

    checkpoints.save(state)
    checkpoints.wait()

    assert newest_checkpoint(tmp_path / "kept").address == checkpoints.newest
    (saved,) = [report for report in told if isinstance(report, Saved)]
    assert saved.step == 3
    assert saved.blocked_s >= 0


def test_the_end_of_an_epoch_that_was_over_at_once_writes_none(begin, state, tmp_path):
    checkpoints, _ = begin()

    checkpoints.save_epoch(state)
    checkpoints.wait()

    assert newest_checkpoint(tmp_path / "kept") is None
