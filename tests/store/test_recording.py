import sqlite3
from contextlib import closing

import pytest

import shoal.store
from shoal.base import ConflictError, InputError, Recorder, Ref


def test_run_is_a_recorder(store):
    recorder: Recorder = store.runs.start(kind="train", name="n", config={})

    recorder.metric("loss", 1.0, 0)
    recorder.event("worker_lost", rank=3)
    recorder.lineage(Ref("dataset", "a", ""), Ref("run", "r-0001", ""), "trained_on")

    assert len(store.lineage.sources_of(Ref("run", "r-0001", ""))) == 1


def test_event_is_noted_as_it_was(store):
    run = store.runs.start(kind="train", name="n", config={})
    ranks = [1]
    run.event("lost", ranks=ranks)
    ranks.append(2)
    run.flush()

    (event,) = store.runs.events(run.id)

    assert event.fields == {"ranks": [1]}


def test_event_that_json_cannot_say_is_refused_at_once(store):
    run = store.runs.start(kind="train", name="n", config={})

    with pytest.raises(InputError):
        run.event("odd", thing=object())
    run.event("good")
    run.finish()

    assert [event.kind for event in store.runs.events(run.id)] == ["good"]


def test_numpy_numbers_become_plain_ones(store):
    numpy = pytest.importorskip("numpy")
    run = store.runs.start(kind="train", name="n", config={})

    run.metric("loss", numpy.float32(0.5), numpy.int64(3))
    run.flush()

    (point,) = store.metrics.curve(run.id, "loss")
    assert (type(point.value), type(point.step)) == (float, int)


def test_closed_run_says_how_to_go_on(store):
    run = store.runs.start(kind="train", name="n", config={})
    run.close()
    run.close()

    with pytest.raises(ConflictError, match=r"store\.runs\.resume\('r-0001'\)"):
        run.event("late")
    assert store.runs.get(run.id).status == "running"


def test_forgotten_run_is_written_when_the_process_exits(store, program):
    body = """
run = store.runs.start(kind="train", name="n", config={})
run.metric("loss", 1.0, 0)
print("noted")
"""
    with program(body) as process:
        process.stdout.readline()
        process.wait(30)

    assert store.metrics.latest("r-0001") == {"loss": 1.0}


def test_kill_in_the_middle_of_metric_writes_keeps_what_was_flushed(home, program):
    """Every flush that returned is there, what came after it is a whole prefix, and the store goes on."""
    body = """
run = store.runs.start(kind="train", name="n", config={})
step = 0
while True:
    for _ in range(500):
        run.metric("loss", step, step)
        run.metric("accuracy", step, step)
        step += 1
    run.flush()
    print(step)
"""
    with program(body) as process:
        for _ in range(20):
            flushed = int(process.stdout.readline())
        process.kill()
        process.wait()

    with closing(sqlite3.connect(home / "store.db")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    with shoal.store.open(home) as store:
        curves = [store.metrics.curve("r-0001", name) for name in ("loss", "accuracy")]
        steps = [[point.step for point in curve] for curve in curves]
        with store.runs.resume("r-0001") as run:
            run.metric("loss", 0.0, 10**9)
        assert store.metrics.latest("r-0001")["loss"] == 0.0
    assert steps[0] == list(range(len(steps[0])))
    assert len(steps[0]) >= len(steps[1]) >= flushed
