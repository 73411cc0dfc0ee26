"""A failed step as an error that a reader can act on, and what became of the others."""

import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from shoal.base import ShoalError, StepError

_MAX_INPUT_LETTERS = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A step that raised `error` when called with `arguments`; `num_skipped` others needed its result."""

    name: str
    error: BaseException
    arguments: Mapping[str, object]
    num_skipped: int


def step_error(failures: Sequence[Failure], *, num_done: int) -> StepError:
    """Return the error for a run in which steps failed: about the first, with its traceback and the others as notes.

    Args:
        failures: at least one, in the order of the graph.
        num_done: how many steps of the run have a result.
    """
    first = failures[0]
    inputs = {name: _short(value) for name, value in first.arguments.items()}
    called = ", ".join(f"{name}={value}" for name, value in inputs.items())
    waiting = f"; {first.num_skipped} waiting for it did not run" if first.num_skipped else ""
    before = first.error.next_step if isinstance(first.error, ShoalError) else "correct the step or its inputs"
    found = StepError(
        f"step {first.name}({called}) failed: {_words(first.error)}{waiting}",
        next_step=f"{before}; then run the flow again: the {num_done} finished steps are not repeated",
        step=first.name,
        inputs=inputs,
    )
    found.add_note(_own_traceback(first.error))
    for other in failures[1:]:
        found.add_note(f"step {other.name} failed too: {_words(other.error)}")
    found.__cause__ = first.error
    return found


def _words(error: BaseException) -> str:
    return f"{type(error).__name__}: {error.message if isinstance(error, ShoalError) else error}"


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _MAX_INPUT_LETTERS else f"{text[:_MAX_INPUT_LETTERS]}..."


def _own_traceback(error: BaseException) -> str:
    # The first frame is ours; the step begins in the second.
    frames = error.__traceback__.tb_next if error.__traceback__ else None
    return "".join(traceback.format_exception(type(error), error, frames)).rstrip()
