import pytest

from shoal.train.base import Position
from shoal.train.journal import Journal
from shoal.train.reports import EpochDone, Steps, Validated


@pytest.fixture
def journal():
    return Journal(run="r-0001", num_epochs=4, num_batches=10)


def steps(first, losses, **changes):
    return Steps(
        **{"epoch": 0, "first_step": first, "losses": losses, "rows": 32, "seconds": 2.0, "wait_s": 0.5} | changes
    )


def test_progress_tells_where_the_run_stands(journal):
    progress = journal.take_steps(steps(9, [0.5, 0.4], epoch=0))

    assert (progress.step, progress.num_steps, progress.epoch, progress.loss) == (10, 40, 1, 0.4)
    assert (progress.samples_per_s, progress.data_wait, progress.eta_s) == (16.0, 0.25, 30.0)


def test_speed_is_over_all_steps_seen(journal):
    journal.take_steps(steps(1, [0.5]))
    journal.take_steps(steps(2, [0.5], rows=64, seconds=1.0))

    assert journal.samples_per_s == 32.0


def test_a_long_curve_is_thinned_and_keeps_its_last_point():
    journal = Journal(run="r-0001", num_epochs=1, num_batches=10_007)

    points = dict(journal.loss_points(steps(1, [float(step) for step in range(1, 10_008)])))

    assert len(points) <= 1002
    assert points[10_007] == 10_007.0
    assert points[10] == 10.0


def test_a_validation_counts_once_all_workers_told_and_in_any_split(journal):
    batches = [(1.0, 8.0), (0.1, 8.0), (1e16, 8.0), (-1e16, 3.0)]
    whole = journal.take_validation(Validated(epoch=0, step=10, parts={"loss": batches}), 0, 1)

    first = journal.take_validation(Validated(epoch=1, step=20, parts={"loss": batches[1::2]}), 1, 2)
    second = journal.take_validation(Validated(epoch=1, step=20, parts={"loss": batches[0::2]}), 0, 2)

    assert first == {}
    assert second == whole == {"validation.loss": (1.0 + 0.1) / 27.0}


def test_shares_of_dead_workers_do_not_count(journal):
    journal.take_validation(Validated(epoch=0, step=10, parts={"loss": [(9.0, 1.0)]}), 0, 2)
    journal.start_generation()

    assert journal.take_validation(Validated(epoch=0, step=10, parts={"loss": [(1.0, 1.0)]}), 1, 2) == {}


def test_a_worker_without_batches_has_a_share(journal):
    journal.take_validation(Validated(epoch=0, step=10, parts={}), 1, 2)

    values = journal.take_validation(Validated(epoch=0, step=10, parts={"loss": [(1.0, 2.0)]}), 0, 2)

    assert values == {"validation.loss": 0.5}


def test_history_holds_training_and_validation_of_an_epoch(journal):
    journal.take_epoch(EpochDone(epoch=0, step=10, loss=0.5))
    journal.take_validation(Validated(epoch=0, step=10, parts={"accuracy": [(3.0, 4.0)]}), 0, 1)

    assert journal.history == {0: {"train.epoch_loss": 0.5, "validation.accuracy": 0.75}}


def test_a_run_is_complete_once_its_last_epoch_is_validated(journal):
    last = Position(epoch=3, batch=10, step=40)
    journal.take_epoch(EpochDone(epoch=3, step=40, loss=0.5))

    assert journal.is_complete(last, with_validation=False)
    assert not journal.is_complete(last, with_validation=True)
    assert not journal.is_complete(Position(epoch=3, batch=9, step=39), with_validation=False)
