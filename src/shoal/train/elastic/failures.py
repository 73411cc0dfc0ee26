"""What the end of a worker means for its run, in words and in kind."""

import re
from collections.abc import Sequence
from typing import TypeAlias

from shoal.base import ConfigError, DivergedError, RemoteError, ShoalError, StorageFullError, WorkerError
from shoal.runtime import Exited
from shoal.train.checkpoint import Checkpoint
from shoal.train.reports import Diverged, Unsaved

# What lies in a run's place for checkpoints: the newest, none, or why the place could not be asked.
Kept: TypeAlias = Checkpoint | ShoalError | OSError | None

# How the runtime begins the error of a member whose entry raised; what it says of a lost machine may hold any words.
_RAISED = re.compile(r"\S+ \d+ \(pid \d+\) failed: ")
# How Python shows the errors of who asked for memory: by their kinds and, where a kind says more than that, by the
# words that the allocators of torch begin with. A user's own error may hold any words.
_SHORTAGE = re.compile(
    r"""
    (MemoryError | numpy\.(_core|core)\._exceptions\._ArrayMemoryError | pyarrow\.lib\.ArrowMemoryError) (:|$)
    | torch\.(cuda\.)?OutOfMemoryError (:|$)
    | OSError:\ \[Errno\ 12\]
    | (RuntimeError | torch\.AcceleratorError):\ (
        (\[enforce\ fail\ at\ [^\]]*\]\ [^:]{0,40}\.\ )? DefaultCPUAllocator:\ [^:]*memory
        | (CUDA|HIP|MPS\ backend)\ (error:\ )? out\ of\ memory
      )
    """,
    re.VERBOSE,
)


def is_mistake(event: Exited) -> bool:
    """Whether the task's own code raised, so that another worker would only do the same again.

    Too little memory is none: it may be there for another worker, or later.
    """
    # Whatever its exit was like: an interpreter that takes itself apart beside other threads may crash, or be too slow.
    what = _raised(event)
    return what is not None and _SHORTAGE.match(what) is None


def describe_end(event: Exited) -> str:
    """How a worker ended, in a clause."""
    who = f"{event.member.role} {event.member.rank}"
    if (what := _raised(event)) is not None:
        return f"{who} ran out of memory ({what})"
    if event.signal is not None:
        return f"{who} died by signal {event.signal}"
    return f"{who} ended with exit code {event.exit_code}"


def _raised(event: Exited) -> str | None:
    """The last line of what a worker's entry raised, if it did."""
    found = None if event.failure is None else _RAISED.match(event.failure.message)
    return event.failure.message[found.end() :] if event.failure is not None and found is not None else None


def too_many_losses(
    run_id: str,
    *,
    number: int,
    cause: str,
    losses: int,
    retries: int,
    checkpoint: Kept,
    ends: Sequence[Exited],
) -> WorkerError:
    """The error of a run whose workers die faster than they train."""
    first = next((event for event in ends if event.member.rank == number), None)
    kept = _kept(checkpoint, none="no checkpoint", found="step {step} is kept in {address}")
    return WorkerError(
        f"cannot go on with run {run_id}: {cause}, and workers were lost {losses} times in a row without a finished "
        f"step in between, {retries} are allowed; {kept}",
        next_step=f"see what ended it (often too little memory), then shoal.train.resume({run_id!r})",
        role=first.member.role if first else "worker",
        rank=number if number >= 0 else 0,
        pid=first.pid if first else None,
        traceback_text=first.failure.traceback_text if first and first.failure else "",
    )


def divergence(found: Diverged, run_id: str, checkpoint: Kept) -> DivergedError:
    """The error of a run whose loss is no number any more."""
    why = f", {found.why}" if found.why else ""
    kept = _kept(
        checkpoint, none="no checkpoint was written before", found="the weights after step {step} are in {address}"
    )
    return DivergedError(
        f"cannot go on with run {run_id}: the loss of step {found.step}, in epoch {found.epoch + 1}, is {found.loss}"
        f"{why}; {kept}",
        next_step=f"look at it with `shoal train debug {run_id} --step {found.step}`, or lower the learning rate",
        step=found.step,
    )


def not_saved(found: Unsaved) -> ShoalError:
    """The error of a run whose last checkpoint could not be written, of the kind that the worker met."""
    kinds = {kind.__name__: kind for kind in (StorageFullError, RemoteError, ConfigError)}
    return kinds.get(found.error, ShoalError)(found.text, next_step=found.next_step)


def _kept(checkpoint: Kept, *, none: str, found: str) -> str:
    if checkpoint is None:
        return none
    if isinstance(checkpoint, Exception):
        why = checkpoint.message if isinstance(checkpoint, ShoalError) else str(checkpoint)
        return f"whether a checkpoint is kept could not be asked ({why})"
    return found.format(step=checkpoint.position.step, address=checkpoint.address)
