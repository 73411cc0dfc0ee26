from types import SimpleNamespace

import pytest

from shoal.train.journal import Journal
from shoal.train.reports import EpochDone, Steps, Validated


@pytest.fixture
def journal():
    return Journal(run="r-0001", num_epochs=4, num_steps=40, num_rows=160)


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
    journal = Journal(run="r-0001", num_epochs=1, num_steps=10_007, num_rows=10_007)

    points = dict(journal.loss_points(steps(1, [float(step) for step in range(1, 10_008)])))

    assert len(points) <= 1002
    assert points[10_007] == 10_007.0
    assert points[10] == 10.0


def test_progress_tells_what_the_time_went_into(journal):
    progress = journal.take_steps(steps(1, [0.5], exchange_s=1.0, update_s=0.25, workers=3, batch_size=32))

    assert (progress.comm_share, progress.update_share) == (0.5, 0.125)
    assert (progress.workers, progress.batch_size) == (3, 32)


def test_history_holds_training_and_validation_of_an_epoch(journal):
    journal.take_epoch(EpochDone(epoch=0, step=10, loss=0.5))
    journal.take_validation(Validated(epoch=0, step=10, values={"validation.accuracy": 0.75}))

    assert journal.history == {0: {"train.epoch_loss": 0.5, "validation.accuracy": 0.75}}
    assert (journal.told_epoch, journal.told_validation) == (0, 10)


def test_what_an_earlier_process_recorded_is_recalled(journal):
    def curve(**points):
        return [SimpleNamespace(step=int(step[1:]), value=value) for step, value in points.items()]

    journal.recall(
        {
            "train.epoch": curve(s10=1.0, s17=2.0),
            "train.epoch_loss": curve(s10=0.5, s17=0.25),
            "validation.loss": curve(s5=9.0, s10=0.75),
            "train.loss": curve(s10=7.0),
        }
    )

    assert journal.history == {
        0: {"train.epoch_loss": 0.5, "validation.loss": 0.75},
        1: {"train.epoch_loss": 0.25},
    }


def test_with_batches_that_grew_what_is_left_is_less(journal):
    # 4 epochs of 160 rows, from here on by 64: two more steps of this epoch, then three for each.
    progress = journal.take_steps(steps(3, [0.5], rows=64, seconds=2.0, batch_size=64, row=96))

    assert progress.num_steps == 3 + 1 + 3 * 3
    assert progress.eta_s == (64 + 3 * 160) / 32.0


def test_with_batches_of_one_size_all_steps_are_known_from_the_first(journal):
    first = journal.take_steps(steps(1, [0.5], rows=16, batch_size=16, row=16))
    last = journal.take_steps(steps(40, [0.5], epoch=3, rows=16, batch_size=16, row=160))

    assert (first.num_steps, last.num_steps, last.eta_s) == (40, 40, 0.0)


def test_accumulated_batches_are_one_step():
    journal = Journal(run="r-0001", num_epochs=1, num_steps=5, num_rows=160, accumulate=2)

    assert journal.take_steps(steps(1, [0.5], rows=32, batch_size=16, row=32)).num_steps == 5


def test_the_most_steps_bound_what_is_left():
    journal = Journal(run="r-0001", num_epochs=4, num_steps=6, num_rows=160, max_steps=6)

    progress = journal.take_steps(steps(4, [0.5], rows=16, seconds=1.0, batch_size=16, row=64))

    assert (progress.num_steps, progress.eta_s) == (6, 2.0)


def test_the_last_point_is_kept_also_where_batches_grew():
    journal = Journal(run="r-0001", num_epochs=1, num_steps=10_000, num_rows=160_000)

    points = dict(journal.loss_points(steps(4_995, [3.0, 2.0, 1.0], batch_size=64, row=160_000)))

    assert points == {4_997: 1.0}
