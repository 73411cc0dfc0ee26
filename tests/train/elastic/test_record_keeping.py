import warnings
from dataclasses import replace
from pathlib import Path

import pytest

import shoal.store
from shoal.base import Ref, StorageFullError
from shoal.train.elastic.record_keeping import RecordKeeper
from shoal.train.journal import Journal
from shoal.train.reports import (
    Cautioned,
    EpochDone,
    Finished,
    Resized,
    Saved,
    Steps,
    Validated,
    Validating,
    Warned,
)
from shoal.train.worker.orders import Told


@pytest.fixture
def store(tmp_path):
    with shoal.store.open(tmp_path / ".shoal") as store:
        yield store


@pytest.fixture
def run(store):
    return store.runs.start(kind="train", name="test", config={})


@pytest.fixture
def seen():
    return []


@pytest.fixture
def points():
    return []


@pytest.fixture
def journal(run):
    return Journal(run=run.id, num_epochs=2, num_steps=8, num_rows=64)


@pytest.fixture
def keeper(run, journal, seen, points):
    return RecordKeeper(run, journal, also=lambda *point: points.append(point), progress=seen.append)


STEPS = Steps(
    epoch=0,
    first_step=1,
    losses=[0.5, 0.25],
    rows=32,
    seconds=1.0,
    wait_s=0.5,
    exchange_s=0.25,
    update_s=0.125,
    workers=2,
)


def steps(first, num=2, rows=16):
    """Steps of one second each."""
    return Steps(
        epoch=0, first_step=first, losses=[1 / (first + i) for i in range(num)], rows=num * rows, seconds=num, wait_s=0
    )


def take_all(keeper, *reports):
    for report in reports:
        keeper.take(report)


def test_steps_become_curves_and_progress(keeper, run, store, seen, points):
    keeper.take(STEPS)

    run.flush()
    assert [(point.step, point.value) for point in store.metrics.curve(run.id, "train.loss")] == [(1, 0.5), (2, 0.25)]
    latest = store.metrics.latest(run.id)
    assert (latest["train.samples_per_s"], latest["train.step_s"], latest["train.data_wait"]) == (32.0, 0.5, 0.5)
    assert (latest["train.comm_share"], latest["train.update_share"], latest["train.workers"]) == (0.25, 0.125, 2.0)
    assert [(moment.step, moment.comm_share) for moment in seen] == [(2, 0.25)]
    assert ("train.loss", 0.25, 2) in points


def test_it_knows_what_was_told(keeper):
    keeper.take(STEPS)
    keeper.take(EpochDone(epoch=0, step=2, loss=0.5))
    keeper.take(Validated(epoch=0, step=2, values={"validation.loss": 0.75}))
    keeper.take(Saved(step=2, path="/x/2", digest="b3:2"))

    assert keeper.told == Told(step=2, epoch=0, validation=2, saved=2)
    assert keeper.step == 2


def test_checkpoints_enter_the_lineage(keeper, run, store):
    keeper.take(Saved(step=8, path="/8", digest="b3:8", blocked_s=0.01))

    (edge,) = store.lineage.upstream(Ref("checkpoint", "/8", "b3:8"))
    assert (edge.source.kind, edge.source.address, edge.relation) == ("run", run.id, "wrote")
    run.flush()
    (event,) = store.runs.events(run.id)
    assert event.fields["blocked_s"] == 0.01


def test_warnings_reach_user_and_record(keeper, run, store):
    with pytest.warns(RuntimeWarning, match="run r-0001: disk full"):
        keeper.take(Warned(text="disk full"))

    run.flush()
    assert [event.fields for event in store.runs.events(run.id)] == [{"text": "disk full"}]


def test_changes_of_the_batch_size_are_events(keeper, run, store):
    keeper.take(Resized(step=4, size=32, lr_factor=1.5, facts={"noise": 2.0}))

    run.flush()
    (event,) = store.runs.events(run.id)
    assert event.kind == "batch_size"
    assert (event.fields["step"], event.fields["size"], event.fields["lr_factor"]) == (4, 32, 1.5)


def test_news_are_told_once(keeper, seen):
    keeper.say("worker 1 died")
    keeper.take(STEPS)
    keeper.take(steps(3))

    assert [moment.news for moment in seen if moment.news] == [("worker 1 died",)]


def test_at_the_end_nobody_is_called(keeper, seen):
    keeper.stop_showing()

    keeper.take(STEPS)

    assert seen == []


def test_a_step_that_two_workers_tell_counts_once(keeper, journal, points, seen):
    keeper.take(steps(1, 3))

    # Worker 0 had told of steps 2 and 3 as it died; the next one is a step behind what it knew.
    keeper.take(steps(2, 4))
    keeper.take(steps(4, 2))

    losses = [(step, value) for name, value, step in points if name == "train.loss"]
    assert losses == [(step, 1 / step) for step in range(1, 6)]
    assert [moment.step for moment in seen] == [3, 5]
    assert (journal.rows, journal.seconds, journal.samples_per_s) == (80, 5, 16.0)
    assert keeper.told.step == 5


def test_what_is_told_late_takes_nobody_back(keeper, seen):
    keeper.take(steps(1, 4))

    keeper.take(steps(1, 2))

    assert [moment.step for moment in seen] == [4]
    assert (keeper.step, keeper.told.step) == (4, 4)


def test_an_epoch_and_a_validation_that_two_workers_tell_count_once(keeper, points):
    for _ in range(2):
        keeper.take(EpochDone(epoch=0, step=2, loss=0.5))
        keeper.take(Validated(epoch=0, step=2, values={"validation.loss": 0.75}))

    assert [name for name, *_ in points] == ["train.epoch_loss", "train.epoch", "validation.loss"]


def test_after_a_rewind_steps_count_again(keeper, journal, points, seen):
    keeper.take(steps(1, 4))
    keeper.take(EpochDone(epoch=0, step=4, loss=0.5))
    keeper.take(Validated(epoch=0, step=4, values={"validation.loss": 0.75}))

    keeper.rewind(2)
    told = keeper.told
    keeper.take(steps(3, 2))
    keeper.take(EpochDone(epoch=0, step=4, loss=0.5))

    assert told == Told(step=2, epoch=-1, validation=2, saved=-1)
    assert [step for name, _, step in points if name == "train.loss"] == [1, 2, 3, 4, 3, 4]
    assert [step for name, _, step in points if name == "train.epoch"] == [4, 4]
    # Of the first steps, of what validation found then, and of the steps that were done again.
    assert [moment.step for moment in seen] == [4, 4, 4]
    assert journal.rows == 96


def test_a_warning_ends_no_run_where_warnings_are_errors(keeper, run, store, capsys):
    with warnings.catch_warnings():
        warnings.simplefilter("error")

        keeper.take(Warned(text="disk full"))

    run.flush()
    assert [event.fields for event in store.runs.events(run.id)] == [{"text": "disk full"}]
    assert "run r-0001: disk full" in capsys.readouterr().err


def test_once_a_checkpoint_is_known_the_points_before_it_are_in_the_store(keeper, run, store):
    keeper.take(STEPS)

    keeper.take(Saved(step=2, path="/x/2", digest="b3:2"))

    # Nobody flushes: a supervisor that is killed now could not.
    assert [point.step for point in store.metrics.curve(run.id, "train.loss")] == [1, 2]


def test_a_store_that_fails_is_told_once_and_ends_nothing(keeper, run, monkeypatch):
    def fail():
        raise StorageFullError("no room", next_step="make room")

    monkeypatch.setattr(run, "flush", fail)

    with pytest.warns(RuntimeWarning, match=r"cannot be kept, no room; the training goes on") as told:
        take_all(keeper, Saved(step=1, path="/x/1", digest="b3:1"), Saved(step=2, path="/x/2", digest="b3:2"))

    assert len(told) == 1
    assert keeper.told.saved == 2


def test_a_store_that_is_deleted_is_told_once(run, store, journal):
    file = Path(store.url.removeprefix("sqlite:///"))
    keeper = RecordKeeper(run, journal, progress=None, file=file)
    keeper.take(steps(1))

    for path in file.parent.glob("*.db*"):
        path.unlink()
    with pytest.warns(RuntimeWarning, match=r"store\.db was deleted or replaced") as told:
        take_all(keeper, steps(3), steps(5))

    assert len(told) == 1
    assert keeper.step == 6


def test_whoever_watches_sees_that_it_validates_and_what_it_found(keeper, seen):
    take_all(
        keeper,
        STEPS,
        Validating(step=2),
        Validated(epoch=0, step=2, values={"validation.accuracy": 0.75, "train.norm": 1.0}),
        steps(3),
    )

    assert [(moment.step, moment.phase, dict(moment.validation)) for moment in seen] == [
        (2, "training", {}),
        (2, "validating", {}),
        (2, "training", {"accuracy": 0.75}),
        (4, "training", {"accuracy": 0.75}),
    ]


def test_the_last_moment_says_that_the_run_ended_and_nothing_follows(keeper, seen):
    keeper.take(STEPS)

    keeper.end(Finished(step=2))
    keeper.say("too late")

    assert [moment.phase for moment in seen] == ["training", "ended"]
    assert seen[-1].news == ()


def test_an_early_stop_is_told_with_the_best_checkpoint(keeper, seen):
    best = Validated(epoch=0, step=2, values={"validation.loss": 0.5, "validation.best_step": 2.0})
    take_all(keeper, STEPS, best, Saved(step=2, path="/x/2", digest="b3:2"), steps(3))

    keeper.end(Finished(step=4, why="no better loss since step 2"))

    assert seen[-1].news == ("stopped early at step 4: no better loss since step 2; the best checkpoint is /x/2",)
    assert dict(seen[-1].validation) == {"loss": 0.5}


def test_workers_that_mostly_wait_for_each_other_are_told_of_at_the_end(keeper, seen):
    keeper.take(replace(STEPS, exchange_s=0.55))

    keeper.end(Finished(step=2))

    (told,) = seen[-1].news
    assert told == ("the workers spent 55% of the time on each other: one worker, or a larger batch, may be faster")


def test_one_worker_has_nobody_to_wait_for(keeper, seen):
    keeper.take(replace(STEPS, exchange_s=0.55, workers=1))

    keeper.end(Finished(step=2))

    assert seen[-1].news == ()


CAUTIONS = [
    Cautioned(worker=0, text=f"UserWarning: {letter} of size {size}") for letter in "abcdefg" for size in (64, 32)
]


def test_a_worker_s_warnings_are_told_once_each_and_the_first_few_alone(keeper, run, store, seen):
    take_all(keeper, STEPS, *CAUTIONS)

    run.flush()
    told = [f"UserWarning: {letter} of size 64" for letter in "abcde"]
    assert [news for moment in seen for news in moment.news] == [
        f"worker 0 warned: {text}; all of it: shoal run logs r-0001" for text in told
    ]
    assert [event.fields["text"] for event in store.runs.events(run.id)] == told


def test_where_nobody_watches_they_are_warnings_here_too(keeper):
    keeper.stop_showing()

    with pytest.warns(RuntimeWarning, match=r"worker 0 warned: UserWarning: a of size 64; all of it"):
        keeper.take(CAUTIONS[0])
