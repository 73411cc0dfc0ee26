import importlib
import inspect
import json
import sys

import pytest

TASK = """
from dataclasses import dataclass

import torch
from torch import nn

import shoal


@dataclass(frozen=True)
class Clouds(shoal.Task):
    rate: float = 0.1

    def build(self):
        return nn.Linear(8, 3)

    def inputs(self, batch):
        return (batch["x"],)

    def loss(self, outputs, batch):
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
    assert run.config["task"]["fields"] == {"rate": 0.2}
    assert "validation.loss" in done.out
    assert done.out.endswith("next  shoal run show r-0001\n")
    assert done.err.startswith("run r-0001   virtual workers 1\nstep ")
    assert done.err.count("r-0001") == 1


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
        ("cli_task.py:Clouds", "width=3", "its fields are (rate: float = 0.1)"),
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
    typed = {option.name: option.default for option in run_training.params}

    for name in ("epochs", "batch_size", "seed", "workers"):
        assert typed[name] == written[name].default, name


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
