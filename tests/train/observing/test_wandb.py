import json
import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow
pytest.importorskip("wandb")

PROGRAM = """
import sys
from pathlib import Path
from shoal.base import UnsupportedError
from shoal.train.observing.boards import Boards

try:
    with Boards.open(["wandb"], run_id="r-0001", folder=Path(sys.argv[1]), config={"width": 3}) as boards:
        for step in range(1, 4):
            boards.metric("train.loss", 1 / step, step)
except UnsupportedError as error:
    print(error)
"""


@pytest.fixture
def report(tmp_path):
    """Run a program of its own: wandb reads its settings once a process. No login and no settings of who runs this."""

    def report(**variables):
        kept = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
        environment = {**kept, "HOME": str(tmp_path), **variables}
        return subprocess.run(
            [sys.executable, "-W", "error", "-c", PROGRAM, tmp_path], env=environment, capture_output=True, text=True
        )

    return report


def test_offline_the_curves_are_in_a_file_to_be_sent_later(report, tmp_path):
    done = report(WANDB_MODE="offline")

    (written,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    assert done.returncode == 0, done.stderr
    assert _points(written) == [(1, 1.0), (2, 0.5), (3, pytest.approx(1 / 3))]


def test_without_a_login_the_next_step_is_said_before_the_training(report):
    done = report()

    assert done.returncode == 0, done.stderr
    assert "cannot report to wandb" in done.stdout
    assert "set WANDB_MODE=offline" in done.stdout


def _points(path):
    from wandb.proto.wandb_internal_pb2 import Record
    from wandb.sdk.internal.datastore import DataStore

    store = DataStore()
    store.open_for_scan(str(path))
    points = []
    while (data := store.scan_data()) is not None:
        record = Record()
        record.ParseFromString(data)
        found = {(item.key or ".".join(item.nested_key)): json.loads(item.value_json) for item in record.history.item}
        if found:
            points.append((found["step"], found["train/loss"]))
    store.close()
    return points
