import os
import subprocess
import sys
from pathlib import Path

import pytest

from shoal.base import SharedBlock
from shoal.train.group import leftovers
from shoal.train.group.leftovers import new_name, sweep
from shoal.train.group.meeting import MeetingPlace

SCRIPT = """
import os, signal
from shoal.base import SharedBlock
from shoal.train.group.meeting import MeetingPlace
print(SharedBlock.create(64, name=MeetingPlace().shared_name(0) + "control").name, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def block():
    """Makes blocks that somebody else is said to have left."""
    made = []

    def make(name):
        made.append(SharedBlock.create(64, name=f"{name}-g0-control"))
        return Path(made[-1].name)

    yield make
    for each in made:
        each.unlink()


@pytest.fixture
def dead_pid():
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    return process.pid


def renamed(pid, mark=None):
    """A name as this process gives them, of another process or machine."""
    _, _, rest = new_name().partition("-")
    own, _, token = rest.partition(".")
    return f"{pid}-{mark or own}.{token}"


def test_what_a_killed_supervisor_left_goes_with_the_next_meeting_place():
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    killed = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=environment, stdout=subprocess.PIPE, text=True, check=False
    )
    left = Path(killed.stdout.strip())
    was_left = left.exists()

    MeetingPlace()

    assert was_left
    assert not left.exists()


def test_what_a_living_process_shares_stays(block):
    own, parents = block(new_name()), block(renamed(os.getppid()))

    sweep()

    assert own.exists()
    assert parents.exists()


def test_what_was_named_in_another_space_of_process_numbers_stays(block, dead_pid):
    elsewhere = block(renamed(dead_pid, mark="0123abcd"))
    unmarked = block(f"{dead_pid}-x7k2m9q4r1t5")

    sweep()

    assert elsewhere.exists()
    assert unmarked.exists()


def test_what_another_user_owns_stays(block, dead_pid, monkeypatch):
    left = block(renamed(dead_pid))

    with monkeypatch.context() as patch:
        patch.setattr(os, "getuid", lambda: left.stat().st_uid + 1)
        sweep()
    was_left = left.exists()
    sweep()

    assert was_left
    assert not left.exists()


def test_where_nobody_can_tell_machines_apart_all_stays(block, dead_pid, monkeypatch):
    left = block(renamed(dead_pid))
    monkeypatch.setattr(leftovers, "_mark", lambda: None)

    assert sweep() == 0
    assert left.exists()
