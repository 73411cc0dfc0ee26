import signal

import pytest

from shoal.runtime import Member
from shoal.runtime.failure import Ending, failure_of

IN_ORDER = Ending(
    member=Member("replica", 2),
    pid=77,
    return_code=0,
    stop_asked=False,
    summary=None,
    traceback_text="",
    stderr_tail="last words",
)


def ending(**changes):
    from dataclasses import replace

    return failure_of(replace(IN_ORDER, **changes))


def test_a_return_is_no_failure():
    assert ending() is None


@pytest.mark.parametrize("return_code", [1, -signal.SIGTERM, -signal.SIGKILL])
def test_an_end_that_was_asked_for_is_no_failure(return_code):
    assert ending(return_code=return_code, stop_asked=True) is None


@pytest.mark.parametrize("stop_asked", [False, True])
def test_an_exception_is_always_a_failure(stop_asked):
    failure = ending(return_code=1, stop_asked=stop_asked, summary="ValueError: x", traceback_text="Traceback ...")

    assert "replica 2 (pid 77) failed: ValueError: x" in failure.message
    assert failure.traceback_text == "Traceback ..."


def test_the_advice_of_an_error_of_ours_is_passed_on():
    failure = ending(return_code=1, summary="InputError: x", next_step="give another")

    assert failure.next_step == "give another"


def test_an_exit_code_carries_the_last_words():
    failure = ending(return_code=3)

    assert "exited with code 3" in failure.message
    assert (failure.role, failure.rank, failure.pid, failure.traceback_text) == ("replica", 2, 77, "last words")


@pytest.mark.parametrize(
    ("number", "name", "advice"),
    [(signal.SIGKILL, "SIGKILL", "memory"), (signal.SIGSEGV, "SIGSEGV", "C library"), (63, "63", "stderr")],
)
def test_a_signal_is_named_with_what_it_often_means(number, name, advice):
    failure = ending(return_code=-number)

    assert name in failure.message or number == 63
    assert advice in failure.next_step


def test_the_traceback_is_said_to_begin_in_the_user_s_code_where_it_does():
    frame = 'Traceback (most recent call last):\n  File "{}", line 1, in loss\nValueError: x\n'

    own = ending(return_code=1, summary="ValueError: x", traceback_text=frame.format(__file__))
    ours = ending(return_code=1, summary="ValueError: x", traceback_text=frame.format(failure_of.__code__.co_filename))

    assert own.next_step == "read the traceback below; it begins in your own code"
    assert ours.next_step == "read the traceback below"
