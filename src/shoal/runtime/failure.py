"""Putting a member's end into words."""

import signal as signals
import socket
from dataclasses import dataclass

from shoal.base import WorkerError
from shoal.runtime.base import Member
from shoal.runtime.raised import advice


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """What is known when a member's process is gone.

    `return_code` is as `subprocess` gives it: minus the signal's number for a process that a signal killed. `summary`,
    `traceback_text` and `next_step`, which only errors of ours have, are of the exception that ended the entry.
    """

    member: Member
    pid: int
    return_code: int
    stop_asked: bool
    summary: str | None
    traceback_text: str
    stderr_tail: str
    next_step: str = ""


def failure_of(ending: Ending) -> WorkerError | None:
    """The error to raise for an ending; None for one that was in order."""
    member = ending.member
    who = f"{member.role} {member.rank} (pid {ending.pid})"
    if ending.summary is not None:
        message = f"{who} failed: {ending.summary}"
        next_step = ending.next_step or advice(ending.traceback_text)
        detail = ending.traceback_text
    elif ending.return_code == 0 or ending.stop_asked:
        return None
    elif ending.return_code < 0:
        name = _signal_name(-ending.return_code)
        message = f"{who} was killed by {name}"
        next_step = _SIGNAL_ADVICE.get(name, "read what it wrote to stderr last, below")
        detail = ending.stderr_tail
    else:
        message = f"{who} exited with code {ending.return_code}"
        next_step = "read what it wrote to stderr last, below"
        detail = ending.stderr_tail
    return WorkerError(
        message,
        next_step=next_step,
        role=member.role,
        rank=member.rank,
        host=socket.gethostname(),
        pid=ending.pid,
        traceback_text=detail,
    )


_SIGNAL_ADVICE = {
    "SIGKILL": "if nobody killed it, the machine ran out of memory: use fewer members or smaller batches",
    "SIGTERM": "find who ended it: it was not its supervisor",
    "SIGSEGV": "a C library crashed; the stack of each thread is below",
}


def _signal_name(number: int) -> str:
    try:
        return signals.Signals(number).name
    except ValueError:
        return f"signal {number}"
