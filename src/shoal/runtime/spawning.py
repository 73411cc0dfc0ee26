"""Starting a process from a thread that lasts.

Linux sends the death signal that our children ask for when the *thread* that started them ends, not the process. A
service may restart a replica, or a flow start a gang, in a thread that is soon over: so one thread, which ends with the
process, starts them all.
"""

import os
import subprocess
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from queue import SimpleQueue

_Order = tuple["Spawn", "Future[Spawned]"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Spawn:
    """One process to start: it inherits the one descriptor `keep`, and nothing else that is open here but `stdout`.

    None for `stdout` is this process's own.
    """

    arguments: Sequence[str]
    environment: Mapping[str, str]
    keep: int
    stderr: int
    stdout: int | None = None


class Spawned(subprocess.Popen[bytes]):
    """A process of ours; its id stays taken until it is reaped, where the system can."""

    def await_death(self) -> None:
        """Return when it has ended (and is reaped, on macOS before Python 3.13)."""
        # Somebody else may have reaped it, as who ignores SIGCHLD does.
        with suppress(ChildProcessError):
            if hasattr(os, "waitid"):
                os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
            else:
                self.wait()

    def reap(self) -> int:
        """Wait for its end; return its exit code, or its signal as a negative number."""
        return self.wait()


def spawn(request: Spawn) -> Spawned:
    """Start a process that leads a process group of its own, so a Ctrl-C in the terminal reaches the supervisor alone.

    Raises:
        OSError: the system refuses another process, or has no such program.
        ValueError: an argument or a variable holds a NUL.
    """
    started: Future[Spawned] = Future()
    _orders().put((request, started))
    return started.result()


def _start(request: Spawn) -> Spawned:
    return Spawned(
        request.arguments,
        env=dict(request.environment),
        stdin=subprocess.DEVNULL,
        stdout=request.stdout,
        stderr=request.stderr,
        pass_fds=(request.keep,),
        process_group=0,
    )


def _work(orders: "SimpleQueue[_Order]") -> None:
    while True:
        request, started = orders.get()
        try:
            started.set_result(_start(request))
        except Exception as error:  # noqa: BLE001  # handed to the caller, whose thread waits for it
            started.set_exception(error)
        # A thread that waits for its next order must not keep the last one's descriptors and errors alive.
        del request, started


_lock = threading.Lock()
_queue: "SimpleQueue[_Order] | None" = None


def _orders() -> "SimpleQueue[_Order]":
    global _queue
    with _lock:
        if _queue is None:
            _queue = SimpleQueue()
            threading.Thread(target=_work, args=(_queue,), name="shoal-spawn", daemon=True).start()
        return _queue


def _forget_thread() -> None:
    global _lock, _queue  # a forked process has neither the thread nor a sane lock
    _lock, _queue = threading.Lock(), None


os.register_at_fork(after_in_child=_forget_thread)
