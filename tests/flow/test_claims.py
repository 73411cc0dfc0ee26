"""One run at a time computes a key; whoever dies or ends stands in nobody's way."""

import os
import signal
import subprocess
import sys
import time

import pytest

from shoal.flow.claims import Claims


@pytest.fixture
def claims(store):
    opened = []

    def open_claims(**settings):
        opened.append(Claims(store, **settings))
        return opened[-1]

    yield open_claims
    for each in opened:
        each.close()


def test_a_key_is_taken_by_one_run(claims):
    first, second = claims(), claims()

    assert first.take(["a", "b"]) == {"a", "b"}
    assert second.take(["b", "c"]) == {"c"}


def test_a_key_given_back_can_be_taken(claims):
    first, second = claims(), claims()
    first.take(["a"])

    first.give_back(["a"])

    assert second.take(["a"]) == {"a"}


def test_closing_gives_everything_back_and_leaves_no_file(claims, store):
    first = claims()
    first.take(["a"])

    first.close()

    assert claims().take(["a"]) == {"a"}
    assert len(list((store.home / "flows").iterdir())) == 1


def test_a_run_that_renews_keeps_its_claims(claims):
    first, second = claims(ttl_s=0.1), claims(ttl_s=0.1)
    first.take(["a"])

    # The renewer is the only one that could have done it: wait for its third turn, beyond the claim's first end.
    turns = []
    original = first._memo.claim_many
    first._memo = type("Counting", (), {"claim_many": lambda self, *a: turns.append(1) or original(*a)})()
    while len(turns) < 4:
        pass

    assert second.take(["a"]) == set()
    first._memo = second._memo


def _age(file):
    os.utime(file, (0, 0))
    return file


def test_the_lock_of_a_run_that_died_long_ago_is_removed(claims, store):
    dead = store.home / "flows" / "flow-dead.lock"
    dead.parent.mkdir()
    dead.touch()

    claims().take(["a"])

    # Its other claims may not have lapsed yet, and only its lock tells that they are free.
    assert dead.exists()

    _age(dead)
    claims().take(["b"])

    assert not dead.exists()


def test_the_lock_of_a_living_run_stays_however_old(claims, store):
    first, second = claims(), claims()
    first.take(["a"])
    lock = _age(store.home / "flows" / f"{first.owner}.lock")

    second.take(["b"])

    assert lock.exists()


def test_a_run_that_renews_keeps_its_lock_young(claims, store):
    first = claims(ttl_s=0.03)
    first.take(["a"])
    lock = _age(store.home / "flows" / f"{first.owner}.lock")

    give_up = time.monotonic() + 10
    while lock.stat().st_mtime == 0 and time.monotonic() < give_up:
        pass

    assert lock.stat().st_mtime > 0


DYING = """
import sys, shoal.store
from shoal.flow.claims import Claims
with shoal.store.open(sys.argv[1]) as store:
    print(Claims(store).take(["a"]), flush=True)
    sys.stdin.read()
"""


@pytest.mark.slow
def test_the_claims_of_a_killed_run_are_free_at_once(claims, store):
    process = subprocess.Popen(
        [sys.executable, "-c", DYING, str(store.home)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "{'a'}\n"
    assert claims().take(["a"]) == set()

    process.send_signal(signal.SIGKILL)
    process.communicate()

    assert claims().take(["a"]) == {"a"}
