"""A call ends with its value or its error, whatever it raises, and so does its thread."""

import sys
import threading

import pytest

from shoal.flow.workers import Call, Workers, make


def _call(function, *args, encode=None):
    return Call(index=0, function=function, args=args, kwargs={}, declared=(), encode=encode)


def test_a_value_comes_back():
    assert make(_call(lambda x: x + 1, 4)).value == 5


@pytest.mark.parametrize("error", [ValueError("x"), SystemExit(3), KeyboardInterrupt()])
def test_any_error_comes_back(error):
    def fail():
        raise error

    assert make(_call(fail)).error is error


def test_an_error_while_the_value_is_written_comes_back():
    def refuse(value):
        raise TypeError(value)

    assert isinstance(make(_call(lambda: 1, encode=refuse)).error, TypeError)


def test_files_read_by_the_call_come_back(tmp_path):
    (tmp_path / "data").write_text("x")

    assert make(_call((tmp_path / "data").read_text)).undeclared == (str(tmp_path / "data"),)


def test_calls_run_side_by_side():
    meeting = threading.Barrier(2)
    with Workers(2) as workers:
        for _ in range(2):
            workers.submit(_call(meeting.wait))

        assert {workers.finished.get(timeout=10).value for _ in range(2)} == {0, 1}


def test_threads_end_with_the_block():
    with Workers(2) as workers:
        workers.submit(_call(sys.getsizeof, 1))
        workers.finished.get(timeout=10)
        thread = workers._threads[0]

    thread.join(10)

    assert not thread.is_alive()
