import threading

import pytest

from shoal.runtime.env.hosting import EnvHost
from shoal.runtime.remote.reception import Reception, call


@pytest.fixture
def reception():
    reception = Reception("127.0.0.1")
    yield reception
    reception.close()


def test_a_rank_that_was_not_waited_for_any_more_serves_the_next(reception):
    first, second = (EnvHost(reception, 1, lambda: None) for _ in range(2))
    waiter = threading.Thread(target=first.connect)
    waiter.start()
    first.release()
    waiter.join()

    theirs = call(reception.address, reception.port, reception.token, 1)
    line = second.connect()

    assert line is not None
    second.release()
    assert theirs.read() is None
    line.close()
    theirs.close()


def test_what_is_known_names_the_rank(reception):
    assert "rank 5" in EnvHost(reception, 5, lambda: None).explain()
