import json

import pytest

import shoal.store
from shoal.base import file_lock


@pytest.fixture
def run(shoal):
    with shoal_store() as store, store.runs.start(kind="train", name="wide", config={"width": 32}) as run:
        run.metric("train.loss", 0.5, 10)
    return run


def shoal_store():
    return shoal.store.open()


def test_lists_runs(shoal, run):
    done = shoal("run", "list")

    assert run.id in done.out
    assert f"next  shoal run show {run.id}" in done.out


def test_list_is_filtered(shoal, run):
    assert json.loads(shoal("run", "list", "--status", "failed", "--json").out) == []


def test_shows_configuration_and_metrics(shoal, run):
    done = shoal("run", "show", run.id)

    assert "\n\nconfig\n  width  32\n" in done.out
    assert "train.loss  0.5" in done.out


def test_json_has_record_and_metrics(shoal, run):
    found = json.loads(shoal("run", "show", run.id, "--json").out)

    assert found["run"]["status"] == "done"
    assert found["metrics"] == {"train.loss": 0.5}


def test_without_a_store_it_says_so(shoal):
    done = shoal("run", "list")

    assert done.code == 1
    assert "next" in done.err


@pytest.fixture
def trained(shoal):
    """A run as training leaves it: curves, checkpoints, and what its workers printed."""
    with shoal_store() as store:
        for name, width, slope in (("small", 16, 1.0), ("wide", 32, 2.0)):
            with store.runs.start(kind="train", name=name, config={"task": {"width": width}, "seed": 0}) as run:
                for step in range(1, 11):
                    run.metric("train.loss", slope / step, step)
                    run.metric("train.step_s", 0.01, step)
                    run.metric("train.data_wait", 0.25, step)
                    run.metric("train.comm_share", 0.125, step)
                    run.metric("train.update_share", 0.125, step)
                run.event("checkpoint", step=10, blocked_s=0.02)
            (run.folder / "logs").mkdir()
            for rank in (0, 1, 10):
                (run.folder / "logs" / f"worker-{rank}.log").write_text(f"{name} {rank}\nfirst\nlast\n")
    return run


def test_a_breakdown_says_where_a_step_s_time_went(shoal, trained):
    text = shoal("run", "show", trained.id, "--breakdown").out
    parts = json.loads(shoal("run", "show", trained.id, "--breakdown", "--json").out)["breakdown"]

    assert ["compute", "5.000", "41.7%"] in [line.split() for line in text.splitlines()]
    assert [(part["name"], round(part["seconds"], 6)) for part in parts] == [
        ("data wait", 0.0025), ("compute", 0.005), ("exchange", 0.00125), ("update", 0.00125), ("checkpoint", 0.002),
    ]  # fmt: skip


def test_a_run_that_recorded_no_times_has_no_breakdown(shoal, run):
    assert "no step times were recorded" in shoal("run", "show", run.id, "--breakdown").out


def test_logs_are_shown_worker_by_worker(shoal, trained):
    text = shoal("run", "logs", trained.id, "--lines", 1).out

    assert text == "== worker-0\nlast\n\n== worker-1\nlast\n\n== worker-10\nlast\n"


def test_one_worker_s_log(shoal, trained):
    found = json.loads(shoal("run", "logs", trained.id, "--worker", 1, "--lines", 0, "--json").out)

    assert found["logs"] == {"worker-1": "wide 1\nfirst\nlast"}


def test_a_worker_that_never_was_has_no_log(shoal, trained):
    done = shoal("run", "logs", trained.id, "--worker", 7)

    assert done.code == 1
    assert f"shoal run logs {trained.id}" in done.err


def test_the_failure_that_came_first_stands_on_top(shoal, tmp_path):
    with shoal_store() as store:
        run = store.runs.start(kind="train", name="wide", config={})
        run.event("worker_failed", worker=1, message="worker 1 failed: ValueError: no", detail="Traceback: here")
        run.finish("failed", "WorkerError: worker 1 failed: ValueError: no")
        (run.folder / "logs").mkdir()
        (run.folder / "logs" / "worker-0.log").write_text("lost its peer\n")

    text = shoal("run", "logs", run.id).out

    assert text.startswith("== first failure: worker 1 failed: ValueError: no\nTraceback: here\n\n== worker-0\n")


def test_a_run_that_printed_nothing_says_so(shoal, run):
    assert shoal("run", "logs", run.id).out == "no worker has printed anything\n"


def test_runs_are_compared_by_settings_results_and_curves(shoal, trained, tmp_path):
    done = shoal("run", "compare", "r-0001", "r-0002", "--picture", "losses.svg")

    lines = done.out.splitlines()
    assert lines[0].split() == ["r-0001", "r-0002"]
    assert ["task.width", "16", "32"] in [line.split() for line in lines]
    assert ["train.loss", "0.1", "0.2"] in [line.split() for line in lines]
    assert not any("seed" in line for line in lines)
    assert lines[-4:-1] == ["A  r-0001 small", "B  r-0002 wide", ""]
    assert (tmp_path / "losses.svg").read_text().count("<polyline") == 2


def test_a_comparison_as_json_has_the_points(shoal, trained):
    found = json.loads(shoal("run", "compare", "r-0001", "r-0002", "--json").out)

    assert found["differences"] == {"task.width": [16, 32]}
    assert found["curves"]["r-0002"][:2] == [[1, 2.0], [2, 1.0]]


def test_a_curve_that_no_run_has_names_those_there_are(shoal, trained):
    done = shoal("run", "compare", "r-0001", "--metric", "train.lss")

    assert done.code == 1
    assert "train.loss" in done.err


def test_a_picture_is_svg(shoal, trained):
    done = shoal("run", "compare", "r-0001", "--picture", "losses.png")

    assert done.code == 1
    assert ".svg" in done.err


def test_settings_stand_one_a_line_below_what_they_belong_to(shoal, trained):
    text = shoal("run", "show", trained.id).out

    assert text.endswith("\n\nconfig\n  seed  0\n  task\n    width  32\n")


def test_losses_of_workers_are_shown(shoal):
    with shoal_store() as store, store.runs.start(kind="train", name="wide", config={}) as run:
        run.event("worker_lost", worker=1, cause="worker 1 died by signal 9", step=12, left=1)
        run.event("generation", generation=1, workers=[0], step=12, because="worker 1 died by signal 9")

    text = shoal("run", "show", run.id).out
    found = json.loads(shoal("run", "show", run.id, "--json").out)["workers"]

    assert "workers   worker 1 died by signal 9 after step 12\n" in text
    assert "workers   1 worker from step 12 on (worker 1 died by signal 9)\n" in text
    assert [change["event"] for change in found] == ["worker_lost", "generation"]


def test_the_list_says_how_good_each_run_is(shoal):
    with shoal_store() as store, store.runs.start(kind="train", name="wide", config={}) as run:
        run.metric("train.loss", 0.5, 10)
        run.metric("validation.accuracy", 0.875, 10)

    head, line, *_ = shoal("run", "list").out.splitlines()

    assert head.endswith("loss  val accuracy")
    assert line.split()[-2:] == ["0.5", "0.875"]


def test_a_run_on_which_nobody_works_any_more_is_interrupted(shoal):
    """As after kill -9 of its supervisor, which has written no end."""
    with shoal_store() as store:
        run = store.runs.start(kind="train", name="wide", config={})
        with file_lock(run.folder / "supervisor.lock"):
            assert " running " in shoal("run", "list").out
            assert json.loads(shoal("run", "show", run.id, "--json").out)["interrupted"] is False

    assert " interrupted " in shoal("run", "list").out
    assert f"interrupted: nobody works on it; shoal train resume {run.id}" in shoal("run", "show", run.id).out
    assert json.loads(shoal("run", "show", run.id, "--json").out)["interrupted"] is True


def test_a_traceback_is_shown_once_and_other_logs_with_one_are_named(shoal):
    traceback = "Traceback (most recent call last):\n  here\nValueError: no"
    with shoal_store() as store:
        run = store.runs.start(kind="train", name="wide", config={})
        run.event("worker_failed", worker=1, message="worker 1 failed: ValueError: no", detail=traceback)
        run.finish("failed", "WorkerError: worker 1 failed: ValueError: no")
        (run.folder / "logs").mkdir()
        for rank in range(3):
            (run.folder / "logs" / f"worker-{rank}.log").write_text(f"hello from {rank}\n{traceback}\n")

    text = shoal("run", "logs", run.id).out
    whole = shoal("run", "logs", run.id, "--worker", 2).out

    assert text.count("Traceback (most") == 1
    assert "== worker-1\nhello from 1\n(the traceback above)\n" in text
    assert [line.rpartition("/")[2] for line in text.splitlines()[-2:]] == ["worker-0.log", "worker-2.log"]
    assert f"hello from 2\n{traceback}" in whole
