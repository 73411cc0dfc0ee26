import logging
import threading

import pytest

from shoal.serve.host.looking import Looker

PATIENCE_S = 10.0


@pytest.fixture
def begin():
    made = []

    def begin(look, every_s=0.001):
        made.append(Looker(look, every_s=every_s, name="test", failed="cannot look"))
        made[-1].start()
        return made[-1]

    yield begin
    for looker in made:
        looker.stop()


def test_it_looks_again_and_again(begin):
    looks = threading.Semaphore(0)

    begin(looks.release)

    assert all(looks.acquire(timeout=PATIENCE_S) for _ in range(3))


def test_a_wish_is_heeded_at_once(begin):
    seen = threading.Event()

    begin(seen.set, every_s=1_000.0).look_now()

    assert seen.wait(PATIENCE_S)


def test_what_is_raised_ends_nothing_and_is_said_once(begin, caplog):
    looks = threading.Semaphore(0)

    def look():
        looks.release()
        raise OSError("gone")

    with caplog.at_level(logging.WARNING):
        looker = begin(look)
        assert all(looks.acquire(timeout=PATIENCE_S) for _ in range(5))
        looker.stop()

    assert caplog.messages == ["cannot look: gone"]


def test_stopping_waits_for_the_look_that_is_under_way(begin):
    began, goes_on, ended = threading.Event(), threading.Event(), threading.Event()

    def look():
        began.set()
        goes_on.wait(PATIENCE_S)
        ended.set()

    looker = begin(look)
    assert began.wait(PATIENCE_S)
    goes_on.set()
    looker.stop()
    looker.stop()

    assert ended.is_set()
