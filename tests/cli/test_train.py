import importlib
import inspect
import json
import re
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import click
import psutil
import pytest

TASK = """
import time
from dataclasses import dataclass

import torch
from torch import nn

import shoal


@dataclass(frozen=True)
class Clouds(shoal.Task):
    rate: float = 0.1
    pause: float = 0.0

    def build(self):
        return nn.Linear(8, 3)

    def inputs(self, batch):
        return (batch["x"],)

    def loss(self, outputs, batch):
        time.sleep(self.pause)
        return nn.functional.cross_entropy(outputs, batch["label"])

    def optimizer(self, params):
        return torch.optim.SGD(params, lr=self.rate)


slow = Clouds(rate=0.01)
"""


@pytest.fixture(autouse=True)
def task(tmp_path, forget):
    """A task in a file of its own, which is imported anew in every test."""
    (tmp_path / "cli_task.py").write_text(TASK)
    return "cli_task.py:Clouds"


@pytest.fixture
def fitted(monkeypatch):
    """What `fit` is called with, in place of training."""
    calls = []

    def fit(task, rows, *, progress, **given):
        calls.append(given)
        raise KeyboardInterrupt

    monkeypatch.setattr("shoal.train.fit", fit, raising=False)
    return calls


@pytest.fixture
def forget(monkeypatch):
    """Make this process as new to the task as another one is."""
    path = list(sys.path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def forget():
        sys.modules.pop("cli_task", None)
        sys.path[:] = path
        importlib.invalidate_caches()

    yield forget
    forget()


@pytest.mark.slow
def test_trains_a_task_from_a_file(shoal, store, task, dataset):
    done = shoal("train", "run", task, "--data", dataset.path, "--validation", dataset.path, "--set", "rate=0.2")

    (run,) = store.runs.list()
    assert done.code == 0
    assert (run.id, run.name, run.status) == ("r-0001", "Clouds", "done")
    assert run.dataset.digest == dataset.digest
    assert run.config["task"]["fields"] == {"rate": 0.2, "pause": 0.0}
    assert "validation.loss" in done.out
    assert done.out.endswith("next  shoal run show r-0001\n")
    told = [json.loads(line) for line in done.err.splitlines()]
    assert told[0] == {"event": "news", "run": "r-0001", "step": 1, "text": "run r-0001   virtual workers 1"}
    assert (told[-1]["event"], told[-1]["step"], told[-1]["num_steps"]) == ("progress", 10, 10)
    assert (told[-1]["phase"], set(told[-1]["validation"])) == ("ended", {"loss"})
    assert "validating" in [line.get("phase") for line in told]


@pytest.mark.slow
def test_a_run_is_gone_on_with_where_its_task_is_found(shoal, store, forget, dataset, tmp_path):
    options = ["--data", dataset.path, "--workers", 2, "--num-virtual", 2, "--json"]
    trained = json.loads(shoal("train", "run", "cli_task.py:slow", *options).out)

    forget()
    here = json.loads(shoal("train", "resume", "r-0001", "--json").out)
    (tmp_path / "tasks").mkdir()
    (tmp_path / "cli_task.py").rename(tmp_path / "tasks" / "cli_task.py")
    forget()
    lost = shoal("train", "resume", "r-0001")
    there = json.loads(shoal("train", "resume", "r-0001", "--task", "tasks/cli_task.py:Clouds", "--json").out)

    assert set(trained) == {"run", "steps", "seconds", "samples_per_s", "metrics", "checkpoint"}
    assert trained["steps"] == 10
    for resumed in (here, there):
        assert (resumed["run"], resumed["steps"], resumed["checkpoint"]) == ("r-0001", 10, trained["checkpoint"])
    assert lost.code == 1
    assert "cli_task" in lost.err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("address", "typed", "message"),
    [
        ("cli_task.py:Clouds", "width=3", "its fields are (rate: float = 0.1, pause: float = 0.0)"),
        ("cli_task.py:slow", "rate=0.5", "cannot set rate of cli_task.py:slow: it is made already"),
    ],
)
def test_a_setting_that_would_be_ignored_is_refused(shoal, dataset, tmp_path, address, typed, message):
    done = shoal("train", "run", address, "--data", dataset.path, "--set", typed)

    assert done.code == 1
    assert message in done.err
    assert "\nnext   " in done.err
    assert not (tmp_path / ".shoal").exists()


@pytest.mark.slow
def test_what_is_left_out_is_as_in_fit():
    """The same words give the same weights, typed or written."""
    from shoal.cli.train import run_training
    from shoal.train import fit

    written = inspect.signature(fit).parameters
    context = click.Context(run_training)
    alike = [option for option in run_training.params if option.name in written and option.name != "task"]

    assert len(alike) >= 18
    for option in alike:
        # The dictionary says None where click has a word of its own for "nothing", which its types do not take.
        typed = option.type_cast_value(context, option.to_info_dict()["default"])
        assert typed == written[option.name].default, option.name


def test_the_words_of_the_command_line_are_those_of_fit(shoal, task, dataset, fitted):
    shoal(
        *("train", "run", task, "--data", dataset.path, "--workers", "1-4", "--validate-every", 5, "--accumulate", 2),
        *("--checkpoint-every", "10min", "--keep", 3, "--keep-for", "2h", "--to", "kept", "--report-to", "tensorboard"),
        *("--runtime", "ray", "--threads", 2, "--early-stopping", "accuracy:5", "--max-steps", 7, "--replay", "r-0009"),
        *(
            "--device",
            "cuda:1",
            "--retries",
            0,
            "--heartbeat",
            "3s",
            "--step-timeout",
            "1min",
            "--name",
            "mine",
            "--num-virtual",
            8,
        ),
    )

    (given,) = fitted
    stopping = given.pop("early_stopping")
    assert (stopping.monitor, stopping.patience) == ("accuracy", 5)
    assert given.pop("strategy").num_virtual == 8
    assert given == {
        "validation": None, "epochs": 1, "max_steps": 7, "batch_size": None, "seed": 0, "workers": (1, 4), "threads": 2,
        "runtime": "ray", "name": "mine", "accumulate": 2, "validate_every_steps": 5, "checkpoint_every_s": 600.0,
        "keep_checkpoints": 3, "keep_checkpoints_s": 7200.0, "checkpoints_to": "kept", "report_to": ("tensorboard",),
        "retries": 0, "heartbeat_s": 3.0, "step_timeout_s": 60.0, "replay": "r-0009",
        "device": "cuda:1",
    }  # fmt: skip


def test_steps_between_checkpoints_are_a_plain_number(shoal, task, dataset, fitted):
    shoal("train", "run", task, "--data", dataset.path, "--checkpoint-every", 500)

    assert fitted[0]["checkpoint_every_steps"] == 500
    assert "checkpoint_every_s" not in fitted[0]


def test_an_adaptive_batch_has_its_limits(shoal, task, dataset, fitted):
    shoal("train", "run", task, "--data", dataset.path, "--adaptive", "64-1024")

    assert (fitted[0]["batch_size"].min, fitted[0]["batch_size"].max) == (64, 1024)


def test_a_batch_size_that_would_be_ignored_is_refused(shoal, task, dataset):
    done = shoal("train", "run", task, "--data", dataset.path, "--adaptive", "64-1024", "--batch-size", 64)

    assert done.code == 1
    assert "exclude each other" in done.err


@pytest.mark.parametrize("typed", [":3", "loss:", "loss:x"])
def test_early_stopping_that_cannot_be_read_is_refused(shoal, task, dataset, typed):
    done = shoal("train", "run", task, "--data", dataset.path, "--early-stopping", typed)

    assert done.code == 1
    assert "as in loss:3" in done.err


def test_ctrl_c_ends_with_how_to_go_on(shoal, task, dataset, monkeypatch):
    def fit(*_, **__):
        stop = KeyboardInterrupt()
        stop.add_note("run r-0001 stopped after step 5\nnext  shoal train resume r-0001")
        raise stop

    monkeypatch.setattr("shoal.train.fit", fit, raising=False)

    done = shoal("train", "run", task, "--data", dataset.path)

    assert done.code == 130
    assert done.err.splitlines()[-1] == "next  shoal train resume r-0001"


def test_a_warning_is_a_line_of_json_too(shoal, task, dataset, monkeypatch):
    def fit(*_, **__):
        warnings.simplefilter("always")
        warnings.warn("the disk is nearly full", RuntimeWarning, stacklevel=1)
        raise KeyboardInterrupt

    monkeypatch.setattr("shoal.train.fit", fit, raising=False)

    done = shoal("train", "run", task, "--data", dataset.path)

    assert json.loads(done.err.splitlines()[0]) == {"event": "warning", "text": "the disk is nearly full"}


@pytest.mark.slow
@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_is_gone_on_with_to_the_same_bits(shoal, store, task, dataset, tmp_path, ending):
    """A real Ctrl-C, as a terminal sends it, or a shut-down, at a process of its own."""
    options = ["--data", str(dataset.path), "--epochs", "3", "--num-virtual", "2", "--json"]
    whole = json.loads(shoal("train", "run", task, *options).out)
    arguments = [
        sys.executable,
        "-c",
        "from shoal.cli import main; main()",
        "train",
        "run",
        task,
        *options,
        "--set",
        "pause=0.05",
    ]
    with subprocess.Popen(
        arguments, cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    ) as running:
        told = []
        for line in running.stderr:
            told.append(line)
            if line.startswith("{") and json.loads(line)["event"] == "progress" and len(told) == 2:
                running.send_signal(ending)

    resumed = json.loads(shoal("train", "resume", "r-0002", "--workers", 2, "--json").out)

    assert running.returncode == 130
    assert told[-1] == "next  shoal train resume r-0002\n"
    assert store.runs.get("r-0002").status == "done"
    digests = [open_checkpoint(done["checkpoint"]) for done in (whole, resumed)]
    assert digests[0] == digests[1]


@pytest.fixture
def resumed(monkeypatch, store):
    """What `resume` is called with, in place of training."""
    calls = []

    def resume(run_id, *, progress, **given):
        calls.append(given)
        progress(shoal_train.Progress(**MOMENT))
        raise KeyboardInterrupt

    shoal_train = importlib.import_module("shoal.train")
    monkeypatch.setattr("shoal.train.resume", resume, raising=False)
    run = store.runs.start(kind="train", name="test", config={})
    return calls, run


MOMENT = {
    "run": "r-0001", "epoch": 1, "num_epochs": 1, "step": 1, "num_steps": 2, "loss": 0.5, "samples_per_s": 1.0,
    "data_wait": 0.0, "eta_s": 1.0,
}  # fmt: skip


@pytest.mark.slow
def test_how_many_workers_go_on_with_a_run_is_left_to_its_record_unless_told(shoal, resumed):
    calls, _ = resumed

    shoal("train", "resume", "r-0001")
    shoal("train", "resume", "r-0001", "--workers", 1)
    shoal("train", "resume", "r-0001", "--workers", "1-4")

    assert [given["workers"] for given in calls] == [None, 1, (1, 4)]


@pytest.mark.slow
def test_a_resumed_run_says_from_where_it_goes_on(shoal, resumed):
    _, run = resumed

    nothing = shoal("train", "resume", "r-0001").err
    run.event("checkpoint", step=7)
    run.flush()
    something = shoal("train", "resume", "r-0001").err

    assert "run r-0001   resumed from the beginning: there was no checkpoint" in nothing
    assert "run r-0001   resumed from step 7" in something


@pytest.mark.slow
def test_a_run_that_is_done_is_said_to_be(shoal, resumed):
    resumed[1].finish("done")

    told = [json.loads(line) for line in shoal("train", "resume", "r-0001").err.splitlines() if line.startswith("{")]

    assert {"event": "note", "text": "run r-0001 has already finished"} in told


def test_a_missing_file_fails_with_the_next_step(shoal, dataset):
    done = shoal("train", "run", "nowhere.py:Clouds", "--data", dataset.path)

    assert done.code == 1
    assert "nowhere.py" in done.err
    assert "\nnext   " in done.err


def test_data_is_needed(shoal, task):
    done = shoal("train", "run", task)

    assert done.code == 2
    assert "--data" in done.err


@pytest.mark.slow
def test_an_unknown_run_cannot_be_gone_on_with(shoal, store):
    done = shoal("train", "resume", "r-9999")

    assert done.code == 1
    assert "r-9999" in done.err


@pytest.mark.slow
def test_a_death_and_a_newcomer_are_told_as_they_happen(shoal, store, task, dataset, tmp_path):
    options = ["--data", str(dataset.path), "--epochs", "60", "--workers", "2", "--set", "pause=0.1"]
    arguments = [sys.executable, "-c", "from shoal.cli import main; main()", "train", "run", task, *options]
    news, killed, stopped = [], False, False
    with subprocess.Popen(
        arguments, cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    ) as running:
        for line in running.stderr:
            told = json.loads(line) if line.startswith("{") else {"event": "end"}
            if told["event"] == "news":
                news.append(told["text"])
            if not killed and told["event"] == "progress":
                killed = True
                _worker(running.pid, 1).kill()
            if not stopped and "joined" in news[-1]:
                stopped = True
                running.send_signal(signal.SIGINT)

    printed = shoal("run", "logs", "r-0001").out

    assert running.returncode == 130
    assert news[1].startswith("worker 1 died by signal 9 after step ")
    assert re.fullmatch(r"going on with 1 worker; pause \d+ ms", news[2])
    assert re.fullmatch(r"worker 2 joined; going on with 2 workers; pause \d+ ms", news[3])
    assert [line for line in printed.splitlines() if line.startswith("== ")][-3:] == [
        "== worker-0", "== worker-1", "== worker-2",
    ]  # fmt: skip


def _worker(supervisor, number):
    children = psutil.Process(supervisor).children(recursive=True)
    return next(child for child in children if child.name() == f"worker-{number}")


def open_checkpoint(address):
    return {path.name: path.read_bytes() for path in Path(address).iterdir() if path.suffix == ".safetensors"}


@pytest.mark.slow
def test_the_device_of_a_run_is_left_to_its_record_unless_told(shoal, resumed):
    calls, _ = resumed

    shoal("train", "resume", "r-0001")
    shoal("train", "resume", "r-0001", "--device", "cpu")

    assert [given["device"] for given in calls] == [None, "cpu"]
