import errno
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from shoal.base import StorageFullError
from shoal.testing.strategy import ContractTask
from shoal.train.checkpoint import newest_checkpoint
from shoal.train.reports import Diverged, EpochDone, Finished, Saved, Steps, Validated, Warned

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
    assert first.of(Finished) == []
    checkpoint = newest_checkpoint(tmp_path / "checkpoints")
    assert checkpoint.position.step == step

    second = work(checkpoint=checkpoint)

    assert newest_checkpoint(tmp_path / "checkpoints").digest == undisturbed[1].digest
    told = [before | after for before, after in zip(facts(first), facts(second), strict=True)]
    assert tuple(told) == facts(undisturbed[0])


def test_checkpoints_come_at_the_given_steps_and_at_the_end_of_epochs(work):
    line = work(every_steps=3)

    assert [saved.step for saved in line.of(Saved)] == [3, 4, 6, 8]


def test_checkpoints_come_by_time(work):
    line = work(every_s=0.0)

    assert [saved.step for saved in line.of(Saved)] == list(range(1, NUM_STEPS + 1))


def fill_up(monkeypatch, steps):
    write_bytes = Path.write_bytes

    def write(path, data):
        if any(f"{step:010d}" in str(path) for step in steps):
            raise OSError(errno.ENOSPC, "No space left on device")
        return write_bytes(path, data)

    monkeypatch.setattr(Path, "write_bytes", write)


def test_a_full_disk_warns_and_training_goes_on(work, tmp_path, undisturbed, monkeypatch):
    fill_up(monkeypatch, [2, 4])

    line = work(every_steps=2)

    assert [saved.step for saved in line.of(Saved)] == [6, 8]
    assert ["step 2" in line.of(Warned)[0].text, "step 4" in line.of(Warned)[1].text] == [True, True]
    assert newest_checkpoint(tmp_path / "checkpoints").digest == undisturbed[1].digest


def test_the_last_checkpoint_must_be_written(work, monkeypatch):
    fill_up(monkeypatch, [NUM_STEPS])

    with pytest.raises(StorageFullError):
        work()


def test_a_loss_that_is_no_number_is_told_with_its_step(work):
    class Exploding(ContractTask):
        def loss(self, outputs, batch):
            loss = super().loss(outputs, batch)
            return loss * torch.inf if Exploding.calls() > 4 * 5 else loss

        count = 0

        @classmethod
        def calls(cls):
            cls.count += 1
            return cls.count

    line = work(task=Exploding(), validation=None)

    assert [(found.epoch, found.step) for found in line.of(Diverged)] == [(1, 6)]
    assert line.of(Finished) == []


def test_another_environment_is_told_on_resume(work, tmp_path):
    work(on_step=stop_at(3))
    checkpoint = newest_checkpoint(tmp_path / "checkpoints")
    checkpoint.environment["instructions"] = "OTHER"

    line = work(checkpoint=checkpoint)

    assert "instructions was OTHER" in line.of(Warned)[0].text


def test_validation_leaves_the_training_untouched(work, tmp_path, undisturbed):
    work(validation=None)

    assert newest_checkpoint(tmp_path / "checkpoints").digest == undisturbed[1].digest


@pytest.mark.slow
def test_a_worker_loads_nothing_that_it_does_not_need():
    heavy = {"sqlalchemy", "onnx", "onnxruntime", "sympy", "rich", "click"}
    program = f"import sys, shoal.train.worker; print(*{heavy} & set(sys.modules))"

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == ""
