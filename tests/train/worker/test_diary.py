import math

from shoal.train.reports import EpochDone, Steps, Validated
from shoal.train.worker.diary import _MAX_ENTRIES, Diary, Done
from shoal.train.worker.orders import Told


def done(step, epoch=0, **changes):
    return Done(
        **{
            "step": step,
            "epoch": epoch,
            "loss": step / 2,
            "rows": 4,
            "seconds": 1.0,
            "wait_s": 0.25,
            "exchange_s": 0.125,
            "update_s": 0.5,
            "workers": 2,
            "batch_size": 4,
        }
        | changes
    )


def filled():
    diary = Diary()
    for entry in (
        done(1),
        done(2),
        EpochDone(epoch=0, step=2, loss=0.5),
        Validated(epoch=0, step=2, values={}),
        done(3, 1),
    ):
        diary.add(entry)
    return diary


def test_steps_of_an_epoch_are_told_together_and_in_order():
    steps, epoch, validated, more = filled().take()

    assert steps == Steps(
        epoch=0,
        first_step=1,
        losses=[0.5, 1.0],
        rows=8,
        seconds=2.0,
        wait_s=0.5,
        exchange_s=0.25,
        update_s=1.0,
        workers=2,
        batch_size=4,
    )
    assert (type(epoch), type(validated)) == (EpochDone, Validated)
    assert (more.epoch, more.first_step, more.last_step) == (1, 3, 3)


def test_what_was_taken_is_not_told_again():
    diary = filled()
    list(diary.take())

    assert list(diary.take()) == []


def test_what_the_supervisor_knows_is_forgotten():
    diary = filled()

    diary.forget(Told(step=2, epoch=0))

    assert [type(report) for report in diary.take()] == [Validated, Steps]


def test_another_member_can_tell_in_its_place():
    other = Diary()
    other.add(done(9))
    diary = filled()
    diary.add(Validated(epoch=1, step=3, values={"validation.loss": math.inf}))

    other.replace(diary.to_bytes())

    assert list(other.take()) == list(diary.take())


def test_memory_is_bounded():
    diary = Diary()
    for step in range(_MAX_ENTRIES + 10):
        diary.add(done(step))

    (steps,) = diary.take()

    assert steps.first_step == 10
