"""Whoever dies, and whenever: versions stay whole, the next run goes on, and no file is lost track of."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from shoal.data import Dataset, ingest
from shoal.data import open as open_dataset
from shoal.data.versions.collection import collect_garbage
from shoal.data.versions.manifest import load_manifest, version_numbers

Rows = dict[str, np.ndarray]

ROWS = {"user": np.arange(300) % 40, "x": np.arange(300) / 7}
MORE = {"user": np.arange(90) % 40, "x": np.arange(90) / 3}
ACTIONS: dict[str, Callable[[str], object]] = {
    "ingest": lambda folder: ingest(ROWS, folder, key="user", num_shards=3),
    "append": lambda folder: open_dataset(folder).append(MORE, num_shards=2),
    "reshard": lambda folder: open_dataset(folder).reshard(num_shards=5, key="x"),
    "collect": lambda folder: collect_garbage(folder, keep_versions=1, delete=True),
}
BEFORE = {"ingest": [], "append": ["ingest"], "reshard": ["ingest"], "collect": ["ingest", "append", "reshard"]}


def act_and_die(folder: str, action: str, moment: int) -> None:
    """Run an action and die at the n-th moment at which it opens, makes, renames, links, locks or removes a file there.

    With n = 0 it lives, and prints how many such moments there are.
    """
    seen = 0

    def hook(event: str, args: object) -> None:
        nonlocal seen
        if event == "fcntl.flock" or (event.split(".")[0] in ("open", "os", "shutil") and folder in str(args)):
            seen += 1
            if seen == moment:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    ACTIONS[action](folder)
    print(seen)


CHILD = """
import sys
sys.path.insert(0, sys.argv[1])
import test_faults
test_faults.act_and_die(sys.argv[2], sys.argv[3], int(sys.argv[4]))
"""


def act(folder: Path, action: str, moment: int) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", CHILD, str(Path(__file__).parent), str(folder), action, str(moment)]
    return subprocess.run(command, check=False, capture_output=True, text=True)


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def named(folder: Path) -> set[str]:
    found = set()
    for number in version_numbers(folder):
        manifest = load_manifest(folder, number)
        found |= {f"shards/{shard.file_name}" for shard in manifest.shards}
        found |= {f"versions/{number:06d}.json", f"profiles/{manifest.profile.removeprefix('b3:')}.arrow"}
    return found


@pytest.mark.slow  # a process for each death
@pytest.mark.parametrize("action", ["ingest", "append", "reshard", "collect"])
def test_a_kill_at_any_moment_loses_nothing_and_leaves_nothing(tmp_path: Path, action: str) -> None:
    start, clean = tmp_path / "start", tmp_path / "clean"
    start.mkdir()
    for earlier in BEFORE[action]:
        ACTIONS[earlier](str(start))
    before = open_dataset(start).digest if BEFORE[action] else None
    shutil.copytree(start, clean)
    num_moments = int(act(clean, action, 0).stdout)
    after = open_dataset(clean).digest
    moments = np.random.default_rng(len(action)).integers(1, num_moments + 1, 6).tolist()

    for moment in sorted({*moments, num_moments}):
        folder = tmp_path / f"killed-{moment}"
        shutil.copytree(start, folder)

        killed = act(folder, action, moment)

        assert killed.returncode == -signal.SIGKILL, (moment, killed.stderr)
        if version_numbers(folder):
            opened = open_dataset(folder)
            opened.verify()
            assert opened.digest in (before, after)
            assert opened.profile.num_rows == opened.num_rows
        else:
            assert before is None
        ACTIONS[action](str(folder))
        assert open_dataset(folder).digest == after
        open_dataset(folder).verify()
        collect_garbage(folder, delete=True)
        assert files(folder) == named(folder), moment


APPENDING = """
import sys, numpy as np
from shoal.base import ConflictError
from shoal.data import open as open_dataset
folder, first, expect = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "expect"
dataset = open_dataset(folder)
print("ready", flush=True)
sys.stdin.readline()
try:
    dataset.append({"user": np.arange(9) + first, "x": np.zeros(9)}, expect=dataset.version if expect else None)
except ConflictError as error:
    print("conflict:", error.message)
else:
    print("arrived")
"""


@pytest.mark.slow  # processes
@pytest.mark.parametrize("mode", ["any", "expect"])
def test_two_writers_both_arrive_or_one_is_told(tmp_path: Path, mode: str) -> None:
    ingest({"user": np.arange(50), "x": np.arange(50.0)}, tmp_path / "b", key="user")
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", APPENDING, str(tmp_path / "b"), str(first), mode],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for first in (100, 200)
    ]
    for writer in writers:
        assert writer.stdout is not None
        writer.stdout.readline()

    said = [writer.communicate("go\n")[0].strip() for writer in _started(writers)]

    newest = open_dataset(tmp_path / "b")
    newest.verify()
    if mode == "any":
        assert said == ["arrived", "arrived"]
        assert (newest.version, newest.num_rows) == (3, 68)
    else:
        assert sorted(text.split(":")[0] for text in said) == ["arrived", "conflict"]
        assert any("its newest version is 2" in text for text in said)
        assert (newest.version, newest.num_rows) == (2, 59)


def _started(writers: list[subprocess.Popen[str]]) -> list[subprocess.Popen[str]]:
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("go\n")
        writer.stdin.flush()
    return writers


COLLECTING = """
import sys
from shoal.data.versions.collection import collect_garbage
print("ready", flush=True)
while True:
    collect_garbage(sys.argv[1], keep_versions=1, delete=True)
"""


@pytest.mark.slow  # processes
def test_collection_beside_writers_of_other_processes_takes_nothing_they_need(
    dataset: Dataset, make_rows: Callable[..., Rows]
) -> None:
    with subprocess.Popen([sys.executable, "-c", COLLECTING, str(dataset.path)], stdout=subprocess.PIPE) as collector:
        assert collector.stdout is not None
        collector.stdout.readline()
        newest = dataset
        for seed in range(1, 16):
            newest = newest.append(make_rows(30, seed=seed), num_shards=3)
            if seed % 5 == 0:
                newest = newest.reshard(num_shards=seed)
            if seed % 7 == 0:
                newest = ingest(make_rows(400 + seed, seed=100 + seed), dataset.path, num_shards=4)
            newest.verify()
        os.kill(collector.pid, signal.SIGKILL)

    opened = open_dataset(dataset.path)
    opened.verify()
    assert opened == newest
