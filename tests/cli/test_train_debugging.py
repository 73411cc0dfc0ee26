import json
import subprocess
import sys

import pytest

import shoal.data
from shoal.data import ingest

pytestmark = pytest.mark.slow

TASK = """
from dataclasses import dataclass

import torch
from torch import nn

import shoal


@dataclass(frozen=True)
class Clouds(shoal.Task):
    def build(self):
        return nn.Sequential(nn.Dropout(0.1), nn.Linear(8, 3))

    def inputs(self, batch):
        return (batch["x"],)

    def loss(self, outputs, batch):
        print("computing")
        error = nn.functional.cross_entropy(outputs, batch["label"])
        return error

    def optimizer(self, params):
        return torch.optim.AdamW(params, lr=0.01)
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory, rows):
    """A run of ten steps in four micro-batches, and one that met a row which is no number."""
    home = tmp_path_factory.mktemp("trained")
    (home / "debugged_task.py").write_text(TASK)
    ingest(rows, home / "clouds", key="id", num_shards=2)
    spoiled = {name: column.copy() for name, column in rows.items()}
    spoiled["x"][321] = float("nan")
    ingest(spoiled, home / "spoiled", key="id", num_shards=2)
    for name in ("clouds", "spoiled"):
        _shoal(home, "train", "run", "debugged_task.py:Clouds", "--data", name, "--workers", "2", "--num-virtual", "4")
    return home


def test_commands_are_done_in_the_loss_of_the_batch(home):
    done = _shoal(
        home,
        "train",
        "debug",
        "r-0001",
        "--step",
        "4",
        "--command",
        "next",
        "--command",
        "next",
        "--command",
        "p error.item()",
    )

    shown = json.loads(_shoal(home, "train", "debug", "r-0001", "--step", "4", "--json").stdout)
    assert done.returncode == 0, done.stderr
    assert "debugged_task.py(20)loss()" in done.stdout
    assert str(shown["parts"][0]["loss"]) in done.stdout
    assert f"loss of step 4  {shown['recorded_loss']!r}" in done.stdout


def test_what_is_piped_in_is_typed(home):
    done = _shoal(
        home, "train", "debug", "r-0001", "--step", "4", "--part", "2", typed="p len(batch['label'])\ncontinue\n"
    )

    assert done.returncode == 0, done.stderr
    assert "(Pdb) 16" in done.stdout
    assert "loss of step 4" in done.stdout


def test_the_end_of_what_is_piped_in_ends_it(home):
    done = _shoal(home, "train", "debug", "r-0001", "--step", "4", typed="p 6 * 7\n")

    assert done.returncode == 0, done.stderr
    assert "42" in done.stdout
    assert "loss of step" not in done.stdout


def test_the_rows_are_shown_and_nothing_is_asked(home):
    done = _shoal(home, "train", "debug", "r-0001", "--step", "4", "--rows")

    shown = json.loads(_shoal(home, "train", "debug", "r-0001", "--step", "4", "--json").stdout)
    rows = [row for part in shown["parts"] for row in part["rows"]]
    assert len(rows) == len(set(rows)) == 64
    assert all(str(row) in done.stdout.split() for row in rows)
    assert (shown["epoch"], shown["loss"], shown["differing"]) == (1, shown["recorded_loss"], [])


def test_it_stops_at_the_loss_that_is_no_number(home):
    with_step = json.loads(_shoal(home, "run", "show", "r-0002", "--json").stdout)["run"]["error"]
    step = with_step.partition("the loss of step ")[2].partition(",")[0]

    shown = json.loads(_shoal(home, "train", "debug", "r-0002", "--step", step, "--json").stdout)

    bad = shown["parts"][shown["part"]]
    assert bad["loss"] is None
    assert all(part["loss"] is not None for part in shown["parts"] if part is not bad)
    assert f"row {_row_of(home)}:" in with_step
    assert _row_of(home) in bad["rows"]


def test_a_step_that_never_was_is_refused(home):
    done = _shoal(home, "train", "debug", "r-0001", "--step", "11")

    assert done.returncode == 1
    assert "ends after step 10" in done.stderr


def _row_of(home):
    (batch,) = shoal.data.open(str(home / "spoiled")).loader(batch_size=600, format="numpy", prefetch=False)
    return batch["id"].tolist().index(321)


def _shoal(home, *arguments, typed=""):
    program = [sys.executable, "-c", "from shoal.cli import main; main()", *arguments]
    return subprocess.run(program, cwd=home, input=typed, capture_output=True, text=True)


def test_a_loss_that_raises_is_stopped_in_before_it_does(broken):
    done = _shoal(broken, "train", "debug", "r-0001", "--step", "1", "--command", "p outputs.shape")

    assert done.returncode == 1
    assert "torch.Size([64, 3])" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    assert "step 1 of r-0001 raises in micro-batch 0: RuntimeError: " in done.stderr
    assert "correct the task" in done.stderr


def test_what_raises_before_the_loss_is_stopped_at(broken):
    done = _shoal(broken, "train", "debug", "r-0002", "--step", "1", "--command", "p sorted(batch)")

    assert done.returncode == 1
    assert "['id', 'label', 'x']" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    assert "raises in micro-batch 0: KeyError: 'y'" in done.stderr


def test_an_earlier_step_that_raises_is_named(broken):
    done = _shoal(broken, "train", "debug", "r-0001", "--step", "3")

    assert done.returncode == 1
    assert "step 1 raises RuntimeError" in done.stderr
    assert "--step 1" in done.stderr


def test_code_that_has_changed_since_the_run_is_told(broken):
    file = broken / "misspelt_task.py"
    file.write_text(file.read_text().replace('batch["y"]', 'batch["z"]'))

    done = _shoal(broken, "train", "debug", "r-0002", "--step", "1", "--command", "p 6 * 7")

    assert "the task's code has changed since it was started" in done.stderr
    assert "KeyError: 'z'" in done.stderr


@pytest.fixture(scope="module")
def broken(tmp_path_factory, rows):
    """A run whose loss takes other shapes, and one that asks for a column that is not there."""
    home = tmp_path_factory.mktemp("broken")
    (home / "shapeless_task.py").write_text(TASK.replace('(outputs, batch["label"])', '(outputs, batch["x"].long())'))
    (home / "misspelt_task.py").write_text(TASK.replace('batch["x"]', 'batch["y"]'))
    ingest(rows, home / "clouds", key="id", num_shards=2)
    for name in ("shapeless", "misspelt"):
        _shoal(home, "train", "run", f"{name}_task.py:Clouds", "--data", "clouds")
    return home
