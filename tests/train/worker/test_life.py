"""A lone worker in this process: what it does and tells, and that an interruption at any place changes nothing."""

import subprocess
import sys

import pytest
import torch
from tests.train.conftest import Line

from shoal.train.checkpoint import newest_checkpoint
from shoal.train.reports import Beat, EpochDone, Finished, Ready, Saved, Steps, Validated, Warm, Warned
from shoal.train.worker.life import Worker
from shoal.train.worker.orders import Meet, Orders, Told

NUM_STEPS = 8  # two epochs of 53 rows by 16


def stop_at(step):
    def on_step(line, done):
        if done == step:
            line.stopping.set()

    return on_step


def facts(line):
    """What a run tells about its result, whatever the timing."""
    losses = {}
    for report in line.of(Steps):
        losses |= dict(enumerate(report.losses, report.first_step))
    epochs = {report.epoch: report for report in line.of(EpochDone)}
    validations = {report.epoch: report for report in line.of(Validated)}
    return losses, epochs, validations


@pytest.fixture
def undisturbed(work, tmp_path):
    line = work(folder=tmp_path / "undisturbed")
    return line, newest_checkpoint(tmp_path / "undisturbed")


def test_every_step_and_epoch_is_told_once(undisturbed):
    line, checkpoint = undisturbed
    losses, epochs, validations = facts(line)

    assert sorted(losses) == list(range(1, NUM_STEPS + 1))
    assert sorted(epochs) == sorted(validations) == [0, 1]
    assert line.of(Finished) == [Finished(step=NUM_STEPS)]
    assert line.of(Saved)[-1].digest == checkpoint.digest


@pytest.mark.parametrize("step", range(1, NUM_STEPS + 1))
def test_interrupted_at_any_step_and_resumed_is_as_undisturbed(work, tmp_path, undisturbed, step):
    first = work(on_step=stop_at(step))
    checkpoint = newest_checkpoint(tmp_path / "checkpoints")
    assert checkpoint.position.step == step

    second = work(checkpoint=checkpoint)

    assert newest_checkpoint(tmp_path / "checkpoints").digest == undisturbed[1].digest
    told = [before | after for before, after in zip(facts(first), facts(second), strict=True)]
    assert tuple(told) == facts(undisturbed[0])


def test_another_environment_is_told_on_resume(work, tmp_path):
    work(on_step=stop_at(3))
    checkpoint = newest_checkpoint(tmp_path / "checkpoints")
    text = (checkpoint.path / "checkpoint.json").read_bytes()
    assert b'"threads":"1"' in text

    line = work(checkpoint=checkpoint, threads=2)

    torch.set_num_threads(1)
    assert "threads was 1, is 2" in line.of(Warned)[0].text


def test_a_newcomer_says_that_it_is_warm_and_waits_to_be_called(make_plan, tmp_path):
    line = Line(rank=5)
    call = Meet(generation=3, numbers=[5], kind="solo", name="", planned=True, told=Told())
    line.messages.append(call.to_message())

    Worker(Orders(plan=make_plan(), checkpoints=str(tmp_path / "kept"), first=None), line).run()

    assert [type(report) for report in line.reports if not isinstance(report, Beat)][:2] == [Warm, Ready]
    assert line.of(Ready)[0].generation == 3
    assert line.of(Finished) == [Finished(step=NUM_STEPS)]


def test_a_call_in_the_middle_is_followed_after_the_step_and_nothing_is_told_twice(work, tmp_path, undisturbed):
    def call_at_3(line, done):
        if done == 3:
            call = Meet(generation=1, numbers=[0], kind="solo", name="", planned=True, told=Told(step=1))
            line.messages.append(call.to_message())

    line = work(on_step=call_at_3)

    assert [ready.step for ready in line.of(Ready)] == [0, 3]
    told = [step for report in line.of(Steps) for step in range(report.first_step, report.last_step + 1)]
    assert told == list(range(1, NUM_STEPS + 1))
    assert newest_checkpoint(tmp_path / "checkpoints").digest == undisturbed[1].digest


@pytest.mark.slow
def test_a_worker_loads_nothing_that_it_does_not_need():
    heavy = {"sqlalchemy", "onnx", "onnxruntime", "sympy", "rich", "click", "torch.distributed.distributed_c10d"}
    # Beyond what torch itself loads, which nobody can do without.
    program = (
        "import sys, torch; own = set(sys.modules); import shoal.train.worker.life; "
        f"print(*{heavy} & (set(sys.modules) - own))"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == ""
