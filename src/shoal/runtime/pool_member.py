"""What a pool's worker runs: one function after another, until it is told to stop."""

import pickle

from shoal.runtime.context import Context
from shoal.runtime.raised import describe

# First byte of an answer.
DONE = b"d"
RAISED = b"r"


def run_tasks(context: Context) -> None:
    """Run each pickled (function, args, kwargs) that comes, and report its pickled end."""
    while (task := context.receive()) is not None:
        context.report(_answer(task))


def _answer(task: bytes) -> bytes:
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
