import json
import sys

import pytest

FLOW = """
from pathlib import Path

from shoal.flow import flow, step


@step
def words(file):
    return Path(file.path).read_text().split()


@step
def count(words, at_least):
    return sum(len(word) >= at_least for word in words)


@step
def fail(number):
    raise RuntimeError(f"cannot go on with {number}")


@flow
def counting(file, at_least=1):
    return count(words(file), at_least)


@flow
def failing(number):
    return fail(number)
"""


@pytest.fixture(autouse=True)
def counting(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    (tmp_path / "cli_flow.py").write_text(FLOW)
    (tmp_path / "text.txt").write_text("one three fifteen")
    yield "cli_flow.py:counting"
    sys.modules.pop("cli_flow", None)


def test_runs_a_flow_and_reuses_it(shoal, store, counting):
    first = shoal("flow", "run", counting, "--set", "file=@text.txt")
    again = shoal("flow", "run", counting, "--set", "file=@text.txt")

    assert first.out.splitlines()[-2:] == [
        "2 steps ran, 0 reused",
        "next  shoal flow explain cli_flow.py:counting --set file=@text.txt",
    ]
    assert "0 steps ran, 2 reused\n" in again.out
    assert [line.split()[0] for line in first.err.splitlines()] == ["words", "count"]


def test_run_as_json_has_every_step(shoal, store, counting):
    found = json.loads(shoal("flow", "run", counting, "--set", "file=@text.txt", "--json").out)

    assert (found["num_run"], found["num_reused"]) == (2, 0)
    assert [step["name"] for step in found["steps"]] == ["words", "count"]
    assert {"name", "key", "reused", "seconds", "reason"} <= set(found["steps"][0])


def test_force_runs_everything_again(shoal, store, counting):
    shoal("flow", "run", counting, "--set", "file=@text.txt")

    found = json.loads(shoal("flow", "run", counting, "--set", "file=@text.txt", "--force", "--json").out)

    assert found["num_reused"] == 0


def test_explain_names_the_input_that_changed(shoal, store, counting):
    shoal("flow", "run", counting, "--set", "file=@text.txt")

    lines = shoal("flow", "explain", counting, "--set", "file=@text.txt", "--set", "at_least=4").out.splitlines()

    assert lines[1].split() == ["words", "would", "be", "reused"]
    assert lines[2].startswith("count  would run")
    assert "at_least" in lines[2]
    assert lines[-1] == "next  shoal flow run cli_flow.py:counting --set file=@text.txt --set at_least=4"


def test_explain_runs_nothing(shoal, store, counting):
    for _ in range(2):
        found = json.loads(shoal("flow", "explain", counting, "--set", "file=@text.txt", "--json").out)

        assert (found["num_run"], found["num_reused"]) == (2, 0)
        assert [step["reused"] for step in found["steps"]] == [False, False]


def test_a_failing_step_is_named_with_its_traceback(shoal, store):
    done = shoal("flow", "run", "cli_flow.py:failing", "--set", "number=3")

    assert done.code == 1
    assert done.err.startswith("error  step fail(number=3) failed")
    assert 'raise RuntimeError(f"cannot go on with {number}")' in done.err
    assert "\nnext   " in done.err


@pytest.mark.parametrize("verb", ["run", "explain"])
@pytest.mark.parametrize("typed", [[], ["--set", "file=a", "--set", "force=true"], ["--set", "file=a", "--set", "b=1"]])
def test_inputs_that_do_not_fit_are_refused_with_the_signature(shoal, counting, verb, typed):
    done = shoal("flow", verb, counting, *typed)

    assert done.code == 1
    assert "its inputs are (file, at_least=1)" in done.err
    assert "--set width=32" in done.err


def test_what_is_no_flow_is_refused(shoal):
    done = shoal("flow", "run", "cli_flow.py:words")

    assert done.code == 1
    assert "is a Step, expected a flow" in done.err


def test_an_unknown_flow_tells_what_is_there(shoal):
    done = shoal("flow", "run", "cli_flow.py:conting")

    assert done.code == 1
    assert "counting" in done.err
