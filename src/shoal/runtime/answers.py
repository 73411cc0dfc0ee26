"""How a task's end travels from the worker that ran it to the future that waits for it."""

import pickle
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from shoal.base import WorkerError
from shoal.runtime.raised import describe

# First byte of an answer.
DONE = b"d"
RAISED = b"r"


@dataclass(slots=True)
class Task:
    """A pickled (function, args, kwargs), and the future that waits for its end."""

    payload: bytes
    future: "Future[Any]"


def run_task(task: bytes) -> bytes:
    """Run a pickled (function, args, kwargs), and return its pickled end: what it returned, or what it raised."""
    try:
        function, args, kwargs = pickle.loads(task)  # noqa: S301  # from our own supervisor, over a private socket
        return DONE + _dumps(function(*args, **kwargs))
    except Exception as error:  # noqa: BLE001  # the boundary: a task's error belongs to its future
        summary, text = describe(error, skip_file=__file__)
        return RAISED + pickle.dumps((summary, text, _dumps_error(error)))


def _dumps(value: object) -> bytes:
    try:
        return pickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL)
    except Exception:  # noqa: BLE001  # whatever plain pickle dislikes, the other one tells properly
        # Imported only here: it takes as long as starting the interpreter, and most results do not need it.
        from shoal.runtime.by_value import dumps

        return dumps(value)


def _dumps_error(error: Exception) -> bytes | None:
    try:
        payload = _dumps(error)
        pickle.loads(payload)  # noqa: S301  # our own bytes: many exceptions can be written but not read back
    except Exception:  # noqa: BLE001  # then its words must do
        return None
    return payload


def settle(future: "Future[Any]", answer: bytes | WorkerError, failed: Callable[[str, str], WorkerError]) -> None:
    """Give a future its end: what `run_task` answered, or the error of a worker that never did.

    `failed` makes an error of a summary and a traceback; the exception itself becomes its cause.
    """
    if isinstance(answer, WorkerError):
        future.set_exception(answer)
        return
    try:
        body = pickle.loads(memoryview(answer)[1:])  # noqa: S301  # from our own worker, over a private line
        if answer[:1] == DONE:
            future.set_result(body)
            return
        summary, text, cause = body
        error = failed(summary, text)
        error.__cause__ = None if cause is None else pickle.loads(cause)  # noqa: S301  # as above
    except Exception as broken:  # noqa: BLE001  # a result that cannot be read here fails its future, not this thread
        error = failed(f"its result cannot be read: {broken!r}", "")
        error.__cause__ = broken
    future.set_exception(error)
