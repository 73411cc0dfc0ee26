"""The tasks of the examples can also be trained from the command line, on the data that the examples leave."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

MAIN = "from shoal.cli import main; main()"
ROOT = Path(__file__).parents[2]
TRAINING = [path for path in sorted((ROOT / "examples").glob("*.py")) if "shoal train run" in path.read_text()]


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("example", TRAINING, ids=lambda path: path.name)
def test_its_task_is_trained_from_the_command_line(example, tmp_path):
    told = run(tmp_path, sys.executable, example)
    arguments = re.search(r"^again: shoal (.*)$", told, re.MULTILINE)[1].split()

    found = json.loads(run(tmp_path, sys.executable, "-c", MAIN, *arguments, "--json"))

    assert found["steps"] > 0
    assert 0 < found["metrics"]["train.epoch_loss"] < 10


def run(folder, *command):
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
