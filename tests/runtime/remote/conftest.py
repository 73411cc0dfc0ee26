"""Both ends of a line in this process, over real TCP."""

import threading

import pytest

from shoal.runtime import Code, Member
from shoal.runtime.remote.reception import Reception, call
from shoal.runtime.running import Launch


@pytest.fixture
def reception():
    reception = Reception("127.0.0.1")
    yield reception
    reception.close()


@pytest.fixture
def join(reception):
    """A supervisor's line and the keeper's that called it."""
    lines = []

    def make(number=1):
        theirs = call(reception.address, reception.port, reception.token, number)
        ours = reception.wait(number)
        lines.extend([ours, theirs])
        return ours, theirs

    yield make
    for line in lines:
        line.close()


@pytest.fixture
def make_launch():
    def make(function, config=None, environment=None):
        return Launch(
            member=Member("worker", 3),
            code=Code.of(function, config),
            world_size=5,
            environment=environment or {},
            log_folder=None,
        )

    return make


@pytest.fixture
def run_in_thread():
    threads = []

    def start(function):
        threads.append(threading.Thread(target=function, daemon=True))
        threads[-1].start()
        return threads[-1]

    yield start
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
