import pytest

import shoal.store
from shoal.base import NotFoundError, StorageFullError


def test_unknown_parent_is_refused_and_takes_no_number(store):
    with pytest.raises(NotFoundError, match="r-0007"):
        store.runs.start(kind="train", name="n", config={}, parent="r-0007")

    assert store.runs.start(kind="train", name="n", config={}).id == "r-0001"


def test_environment_adds_to_what_is_always_recorded(store):
    run = store.runs.start(kind="train", name="n", config={}, environment={"threads": 1})

    environment = store.runs.get(run.id).environment

    assert environment["threads"] == 1
    assert environment["shoal"] == shoal.__version__


def test_run_that_cannot_be_written_still_ends(store, monkeypatch):
    """The disk is full for the points, and there is room again for the last word."""
    run = store.runs.start(kind="train", name="n", config={})
    run.metric("loss", 1.0, 0)
    monkeypatch.setattr("shoal.store.runs.write_points", _full)

    with pytest.raises(StorageFullError):
        run.finish("done")

    assert store.runs.get(run.id).status == "done"


def test_closing_the_store_lets_go_of_finished_runs(store):
    run = store.runs.start(kind="train", name="n", config={})
    run.finish()

    assert run not in store.runs._open


def _full(*_args):
    raise StorageFullError("cannot write", next_step="free space")


def test_two_processes_write_at_once(store, program):
    body = """
for _ in range(20):
    with store.runs.start(kind="train", name=sys.argv[0], config={}) as run:
        for step in range(50):
            run.metric("loss", step, step)
print("done")
"""
    with program(body) as first, program(body) as second:
        for _ in range(20):
            with store.runs.start(kind="train", name="here", config={}) as run:
                run.metric("loss", 1.0, 1)
        assert [first.stdout.readline(), second.stdout.readline()] == ["done\n", "done\n"]

    runs = store.runs.list()
    assert sorted(run.id for run in runs) == [f"r-{number:04d}" for number in range(1, 61)]
    assert {run.status for run in runs} == {"done"}
    assert {len(store.metrics.curve(run.id, "loss")) for run in runs} == {1, 50}
    assert [change.sequence for change in store.changes(0)] == list(range(1, 121))
