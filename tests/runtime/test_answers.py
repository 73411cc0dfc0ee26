import pickle
from concurrent.futures import Future

import pytest

from shoal.base import WorkerError
from shoal.runtime.answers import run_task, settle


def failed(summary, text):
    return WorkerError(summary, next_step="none", traceback_text=text)


def settled(answer):
    future = Future()
    settle(future, answer, failed)
    return future


def test_a_result_comes_home():
    assert settled(run_task(pickle.dumps((divmod, (7, 2), {})))).result() == (3, 1)


def test_an_exception_comes_home_as_the_cause():
    error = settled(run_task(pickle.dumps((divmod, (7, 0), {})))).exception()

    assert isinstance(error, WorkerError)
    assert "ZeroDivisionError" in error.message
    assert isinstance(error.__cause__, ZeroDivisionError)


def test_an_answer_that_cannot_be_read_fails_its_future():
    assert "cannot be read" in settled(b"dgarbage").exception().message


def test_a_worker_that_never_answered_fails_its_future():
    with pytest.raises(WorkerError, match="gone"):
        settled(failed("gone", "")).result()
