"""Killed, raced and upgraded: in processes of their own, as it happens to users."""

import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from collections import Counter
from pathlib import Path

import pytest

import shoal.store

SOURCE = Path(shoal.__path__[0]).parent

CHAINS = """
    import os, sys, time
    from shoal.flow import flow, step

    def note(name):
        with open("log.txt", "a") as log:
            log.write(name + "\\n")

    @step(ignore=["quick"])
    def link(chain, position, before, quick):
        note(f"{chain}.{position}")
        if not quick:
            time.sleep(0.004)
        return {"sum": before["sum"] + position, "ballast": "x" * (100_000 if position % 3 == 0 else 10)}

    @step
    def join(ends):
        note("join")
        return sum(end["sum"] for end in ends)

    @flow
    def chains(quick):
        ends = []
        for chain in range(3):
            value = {"sum": 0}
            for position in range(12):
                value = link(chain, position, value, quick)
            ends.append(value)
        return join(ends)

    if __name__ == "__main__":
        print(chains.run(quick="quick" in sys.argv, parallel=2).value)
"""


@pytest.fixture
def program(tmp_path):
    """Write a program and start it in its own folder, any number of times."""
    (tmp_path / ".shoal").mkdir()
    started = []

    def start(source, *arguments, path=""):
        (tmp_path / "program.py").write_text(textwrap.dedent(source))
        process = subprocess.Popen(
            [sys.executable, "program.py", *arguments],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": f"{SOURCE}:{path}", "PYTHONDONTWRITEBYTECODE": "1"},
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def _output(process):
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    return out.strip()


def _log(folder):
    path = folder / "log.txt"
    return path.read_text().split() if path.exists() else []


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_after_a_kill_only_unfinished_steps_run_again(program, tmp_path, seed):
    process = program(CHAINS)
    kill_after = random.Random(seed).randrange(1, 36)
    while len(_log(tmp_path)) < kill_after and process.poll() is None:
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = Counter(_log(tmp_path))
    done = _finished(tmp_path)

    total = _output(program(CHAINS, "quick"))

    assert total == str(3 * sum(range(12)))
    # At most a step per thread, and what was done within the last 20 ms, was lost.
    assert len(done) >= kill_after - 16
    runs = Counter(_log(tmp_path))
    assert set(runs) == {"join", *(f"{chain}.{position}" for chain in range(3) for position in range(12))}
    assert all(runs[name] == 1 for name in done)
    assert all(runs[name] <= before[name] + 1 for name in runs)


def _finished(folder):
    """Names, as in the log, of the steps that a killed run left recorded; each must have its result."""
    with shoal.store.open(folder / ".shoal") as store:
        newest = store.memo.newest("program.chains")
        names = []
        for step, entry in newest.items():
            if step:
                kept = store.memo.get(entry.key)
                assert kept.inline is not None or store.artifacts.contains(kept.artifact)
                number = int(step.removeprefix("link[").removesuffix("]")) if step != "join" else None
                names.append("join" if number is None else f"{number // 12}.{number % 12}")
    return names


@pytest.mark.slow
def test_two_processes_at_once_compute_a_key_once(program, tmp_path):
    processes = [program(CHAINS) for _ in range(2)]

    assert [_output(process) for process in processes] == [str(3 * sum(range(12)))] * 2
    assert set(Counter(_log(tmp_path)).values()) == {1}


PACKAGED = """
    import library
    from shoal.flow import flow, step

    @step
    def work(x):
        return library.grow(x)

    @flow
    def chain():
        x = 0
        for _ in range(20):
            x = work(x)
        return x

    run = chain.run()
    print(run.num_run, run.outcomes[0].reason)
"""


def _install(folder, version, *, editable=False):
    packages = folder / "site-packages"
    source = folder / "checkout" if editable else packages
    facts = packages / f"library-{version}.dist-info"
    for path in (source / "library", facts):
        path.mkdir(parents=True, exist_ok=True)
    (source / "library" / "__init__.py").write_text(f"def grow(x):\n    return x + {version[0]}\n")
    (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: library\nVersion: {version}\n")
    if editable:
        (facts / "direct_url.json").write_text(f'{{"url": "file://{source}", "dir_info": {{"editable": true}}}}')
    return packages, source


@pytest.mark.slow
def test_another_version_of_a_package_runs_all(program, tmp_path):
    packages, _ = _install(tmp_path, "1.0")
    assert _output(program(PACKAGED, path=str(packages))).startswith("20 ")
    assert _output(program(PACKAGED, path=str(packages))).startswith("0 ")

    (packages / "library-1.0.dist-info").rename(packages / "library-1.1.dist-info")
    _install(tmp_path, "1.1")

    assert _output(program(PACKAGED, path=str(packages))) == "20 package library: 1.0 -> 1.1"


@pytest.mark.slow
def test_an_edit_of_an_editable_package_runs_all(program, tmp_path):
    packages, source = _install(tmp_path, "1.0", editable=True)
    path = f"{packages}:{source}"
    assert _output(program(PACKAGED, path=path)).startswith("20 ")
    assert _output(program(PACKAGED, path=path)).startswith("0 ")

    (source / "library" / "other.py").write_text("CONSTANT = 1\n")

    assert _output(program(PACKAGED, path=path)).startswith("20 package library: b3:")
