"""The error of a failed step says which, with what, why, and what to do."""

from shoal.base import InputError
from shoal.flow.failure import Failure, step_error


def _failure(error, **arguments):
    return Failure(name="train[1]", error=error, arguments=arguments, num_skipped=2)


def _raised(error):
    try:
        raise error
    except Exception as caught:
        return caught


def test_the_message_has_all_parts():
    found = step_error([_failure(_raised(KeyError("b")), width=-1, data="x" * 200)], num_done=3)

    assert found.message.startswith("step train[1](width=-1, data='xxx")
    assert found.message.endswith("...) failed: KeyError: 'b'; 2 waiting for it did not run")
    assert found.next_step.startswith("correct the step or its inputs; then run the flow again: the 3 finished steps")
    assert (found.step, found.inputs["width"]) == ("train[1]", "-1")
    assert isinstance(found.__cause__, KeyError)


def test_the_next_step_of_our_own_errors_comes_first():
    error = _raised(InputError("width=-1 must be >= 1", next_step="pass a larger one"))

    assert step_error([_failure(error)], num_done=0).next_step.startswith("pass a larger one; then run")


def test_the_traceback_and_other_failures_are_noted():
    found = step_error([_failure(_raised(KeyError("b"))), _failure(_raised(ValueError("c")))], num_done=0)

    assert "KeyError" in found.__notes__[0]
    assert found.__notes__[1:] == ["step train[1] failed too: ValueError: c"]
