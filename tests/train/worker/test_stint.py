"""One worker's steps, validations and checkpoints, from the first to the last."""

import errno
import time

import pytest
import torch
from tests.train.conftest import Line

from shoal.base import StorageFullError
from shoal.testing.strategy import ContractTask
from shoal.train.checkpoint import newest_checkpoint
from shoal.train.collective import Collective
from shoal.train.early_stopping import EarlyStopping
from shoal.train.reports import Diverged, Finished, Saved, Steps, Unsaved, Validated, Validating, Warned
from shoal.train.saving.places import FolderPlace
from shoal.train.worker.micro_batch import present_number
from shoal.train.worker.stint import Stint

NUM_STEPS = 8  # two epochs of 53 rows by 16


@pytest.fixture
def undisturbed(work, tmp_path):
    line = work(folder=tmp_path / "undisturbed")
    return line, newest_checkpoint(tmp_path / "undisturbed")


def test_checkpoints_come_at_the_given_steps_and_at_the_end(work):
    line = work(every_steps=3)

    # One that waits while another is written may be replaced by a newer one.
    assert {8} <= {saved.step for saved in line.of(Saved)} <= {3, 6, 8}


def test_checkpoints_come_at_the_end_of_epochs_that_take_their_time(work, monkeypatch):
    monkeypatch.setattr("shoal.train.worker.checkpoints._EPOCH_LEAST_S", 0.0)

    line = work(on_step=lambda *_: time.sleep(0.02))

    assert [saved.step for saved in line.of(Saved)][:2] == [4, 8]


def test_a_full_disk_warns_and_training_goes_on(work, tmp_path, undisturbed, monkeypatch):
    publish = FolderPlace.publish

    def fail_early(place, name, files, manifest):
        if int(name) < NUM_STEPS:
            raise StorageFullError(f"no room: {errno.ENOSPC}", next_step="make room")
        publish(place, name, files, manifest)

    monkeypatch.setattr(FolderPlace, "publish", fail_early)

    line = work(every_steps=2)

    assert {saved.step for saved in line.of(Saved)} == {8}
    assert "no room" in line.of(Warned)[0].text
    assert newest_checkpoint(tmp_path / "checkpoints").digest == undisturbed[1].digest


def test_the_last_checkpoint_must_be_written(work, monkeypatch):
    def fail(*_):
        raise StorageFullError("no room", next_step="make room")

    monkeypatch.setattr(FolderPlace, "publish", fail)

    line = Line()
    with pytest.raises(StorageFullError):
        work(line=line)
    assert [told.error for told in line.of(Unsaved)] == ["StorageFullError"]


def test_a_full_disk_does_not_hide_that_the_loss_is_no_number(work, monkeypatch):
    class Exploded(ContractTask):
        def loss(self, outputs, batch):
            return super().loss(outputs, batch) * torch.inf

    def fail(*_):
        raise StorageFullError("no room", next_step="make room")

    monkeypatch.setattr(FolderPlace, "publish", fail)

    line = work(task=Exploded(), validation=None)

    assert [found.step for found in line.of(Diverged)] == [1]


def test_weights_that_are_no_numbers_are_not_kept(work, tmp_path):
    class RunsAway(ContractTask):
        def optimizer(self, params):
            return torch.optim.SGD(params, lr=1e38)

    line = work(task=RunsAway(), validation=None)

    assert line.of(Diverged)
    kept = newest_checkpoint(tmp_path / "checkpoints")
    assert kept is None or all(bool(weight.isfinite().all()) for weight in kept.weights().values())


def test_a_loss_that_is_no_number_is_told_with_its_step_and_rows(work, tmp_path):
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

    (found,) = line.of(Diverged)
    assert (found.epoch, found.step) == (1, 6)
    assert found.rows
    assert str(found.rows[0]) in found.why
    assert line.of(Finished) == []
    # The weights before it are kept.
    assert newest_checkpoint(tmp_path / "checkpoints").position.step == 5


def test_validation_leaves_the_training_untouched(work, tmp_path, undisturbed):
    work(validation=None)

    assert newest_checkpoint(tmp_path / "checkpoints").digest == undisturbed[1].digest


def test_validation_comes_also_after_the_given_steps(work, tmp_path, undisturbed):
    line = work(validate_every_steps=3)

    assert [found.step for found in line.of(Validated)] == [3, 4, 6, 8]
    weights, expected = newest_checkpoint(tmp_path / "checkpoints").weights(), undisturbed[1].weights()
    assert all(torch.equal(weights[name], expected[name]) for name in expected)


def test_a_validation_between_epochs_that_never_came_to_its_end_is_made_up_for(work, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(Stint, "_validate", lambda _: None)
        work(on_step=lambda line, step: line.stopping.set() if step == 3 else None, validate_every_steps=3)

    line = work(checkpoint=newest_checkpoint(tmp_path / "checkpoints"), validate_every_steps=3)

    assert [found.step for found in line.of(Validated)] == [3, 4, 6, 8]


def test_a_run_ends_after_the_most_steps(work, tmp_path):
    line = work(max_steps=6)

    assert line.of(Finished) == [Finished(step=6)]
    assert [found.step for found in line.of(Validated)] == [4, 6]
    assert newest_checkpoint(tmp_path / "checkpoints").position.step == 6


def test_a_run_that_gets_no_better_stops_early(work):
    line = work(epochs=9, early_stopping=EarlyStopping(patience=1, min_change=100.0))

    (finished,) = line.of(Finished)
    assert finished == Finished(step=8, why="no better loss since step 4")


def test_that_it_validates_is_told_before_and_after_the_steps_until_then(work):
    line = work(epochs=1)

    told = [type(report) for report in line.reports if isinstance(report, Steps | Validating | Validated)]
    assert told[-3:] == [Steps, Validating, Validated]
    assert line.of(Validating) == [Validating(step=4)]


def test_without_a_validation_none_is_told(work):
    assert work(epochs=1, validation=None).of(Validating) == []


def counting(numbers):
    """A task that notes the numbers its micro-batches of training and of validation go by, and the rows they hold."""

    class Counting(ContractTask):
        def loss(self, outputs, batch):
            numbers[outputs.requires_grad].append(present_number())
            return super().loss(outputs, batch)

    return Counting()


def test_micro_batches_are_counted_in_each_epoch(work):
    numbers = {True: [], False: []}

    work(task=counting(numbers), num_parts=2, strategy=Collective(num_virtual=2))

    # 53 rows by 16: the last batch of five rows fills the second micro-batch alone.
    assert numbers[True] == [0, 0, 1, 1, 2, 2, 3] * 2
    # 19 rows by 16, after each epoch.
    assert numbers[False] == [0, 1] * 2


def test_after_an_interruption_the_count_goes_on(work, tmp_path):
    numbers = {True: [], False: []}
    settings = {"task": counting(numbers), "num_parts": 1, "strategy": Collective(num_virtual=1)}
    work(on_step=lambda line, step: line.stopping.set() if step == 6 else None, **settings)
    before = list(numbers[True])
    numbers[True].clear()

    work(checkpoint=newest_checkpoint(tmp_path / "checkpoints"), **settings)

    assert before == [0, 1, 2, 3, 0, 1]
    assert numbers[True] == [2, 3]


def test_accumulated_micro_batches_are_counted_one_by_one(work):
    numbers = {True: [], False: []}

    work(task=counting(numbers), batch_size=8, accumulate=2, num_parts=1, strategy=Collective(num_virtual=1), epochs=1)

    assert numbers[True] == [0, 1, 2, 3, 4, 5, 7]


def test_accumulated_batches_are_one_step_with_the_weights_of_one_large_batch(work, tmp_path):
    work(batch_size=8, accumulate=2, folder=tmp_path / "two", num_parts=2)
    work(batch_size=16, folder=tmp_path / "one", num_parts=4)

    one, two = (newest_checkpoint(tmp_path / name).weights() for name in ("one", "two"))
    assert all(torch.equal(one[name], two[name]) for name in one)
