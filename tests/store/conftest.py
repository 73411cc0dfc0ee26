"""An empty store for each test, copied from one that is made once, and programs that write to it from outside."""

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

import shoal.store
from shoal.base import ManualClock
from shoal.store.database import Database


@pytest.fixture(scope="session")
def made_home(tmp_path_factory):
    home = tmp_path_factory.mktemp("made")
    shoal.store.open(home).close()
    return home


@pytest.fixture
def home(made_home, tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    shutil.copy(made_home / "store.db", home)
    return home


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def store(home, clock):
    with shoal.store.open(home, clock=clock) as store:
        yield store


@pytest.fixture
def database(home):
    database = Database(home / "store.db")
    yield database
    database.close()


@pytest.fixture
def program(home) -> Callable[[str], object]:
    """Start a Python program that has `store` open; its lines are read from `.stdout`, and it dies with the block."""

    @contextmanager
    def start(body: str) -> Iterator[subprocess.Popen[str]]:
        code = f"import sys, shoal.store\nfrom shoal.store import *\nstore = shoal.store.open({str(home)!r})\n{body}"
        process = subprocess.Popen(
            [sys.executable, "-u", "-c", code], stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True
        )
        with process:
            try:
                yield process
            finally:
                process.kill()

    return start
