"""No bytes break the parsers: all kept requests, a bounded number of changed ones, and more found by coverage."""

import importlib.util
import random
import subprocess
import sys
from pathlib import Path

import pytest

TARGETS = (
    "http", "protocol", "plain", "native", "numbers", "multipart", "predicting", "images", "grpc", "heads", "messages",
    "connection",
)  # fmt: skip
NUM_CHANGED = 3000
NUM_RUNS = 4000
BYTES = (
    b"\0",
    b"\n",
    b" ",
    b'"',
    b",",
    b"-",
    b"0",
    b"9",
    b"[",
    b"]",
    b"{",
    b"}",
    b"\x7f",
    b"\x80",
    b"\xff",
    b"\xed\xa0\x80",
)


def changed(seeds, words, number):
    """The same change for the same number: cut, doubled, spliced with another, or with something put into it."""
    chance = random.Random(number)
    data = chance.choice(seeds)
    for _ in range(chance.choice((1, 1, 2, 4))):
        at, to = sorted(chance.choices(range(len(data) + 1), k=2))
        kind = chance.randrange(6)
        if kind == 0:
            data = data[:at] + data[to:]
        elif kind == 1:
            data = data[:to] + data[at:]
        elif kind == 2:
            other = chance.choice(seeds)
            data = data[:at] + other[chance.randrange(len(other) + 1) :]
        elif kind == 3:
            data = data[:at] + chance.choice(words) + data[at:]
        elif kind == 4:
            data = data[:at] + chance.choice(BYTES) + data[at + 1 :]
        else:
            data = data[:at] + bytes([chance.randrange(256)]) + data[at + 1 :]
    return data


def test_the_list_of_targets_is_whole(fuzz):
    assert set(TARGETS) == fuzz.TARGETS.keys()


@pytest.mark.parametrize("name", TARGETS)
def test_what_is_kept_breaks_no_promise(fuzz, name):
    for seed in [b"", b"\0", *fuzz.SEEDS[name]()]:
        fuzz.TARGETS[name](seed)


@pytest.mark.parametrize("name", TARGETS)
def test_what_is_changed_breaks_no_promise(fuzz, name):
    seeds = fuzz.SEEDS[name]()

    for number in range(NUM_CHANGED):
        data = changed(seeds, fuzz.WORDS, number)
        try:
            fuzz.TARGETS[name](data)
        except BaseException as error:
            error.add_note(f"{name}: {data!r}")
            raise


@pytest.mark.slow
@pytest.mark.parametrize("name", TARGETS)
def test_what_is_found_by_coverage_breaks_no_promise(name, tmp_path):
    if importlib.util.find_spec("atheris") is None:
        pytest.skip("atheris is not installed")
    program = Path(__file__).with_name("run.py")

    done = subprocess.run(
        [sys.executable, program, name, "--runs", str(NUM_RUNS), "--keep", tmp_path],
        check=False,
        capture_output=True,
        text=True,
    )

    assert done.returncode == 0, f"{done.stdout[-4000:]}{done.stderr[-4000:]}"
    assert f"Done {NUM_RUNS} runs" in done.stderr
