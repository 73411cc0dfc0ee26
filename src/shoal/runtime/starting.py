"""From what is to be started to a process: a fresh interpreter, or a fork of one that has loaded what it needs."""

import marshal
import os
import socket
import sys
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Protocol

from shoal.base import WorkerError
from shoal.runtime.forking import Fork, ForkServerError, can_fork, find_server
from shoal.runtime.running import Launch
from shoal.runtime.spawning import Spawn, spawn

_MAIN_FILE = str(Path(__file__).with_name("child.py"))


class Process(Protocol):
    """A process that was started; its id stays taken until it is reaped, where the system can."""

    @property
    def pid(self) -> int:
        """Its process id."""

    def await_death(self) -> None:
        """Return when it has ended."""

    def reap(self) -> int:
        """Give its id back; return its exit code, or its signal as a negative number. It has ended, or soon will."""


def start_process(launch: Launch) -> tuple[Process, socket.socket, int]:
    """Start a member: the process, our end of its socket, and the read end of its stderr.

    Raises:
        WorkerError: the system does not let us.
    """
    member = launch.member
    with ExitStack() as on_failure, ExitStack() as always:
        try:
            ours, theirs = socket.socketpair()
            on_failure.enter_context(ours)
            always.enter_context(theirs)
            stderr, stderr_write = os.pipe()
            on_failure.callback(os.close, stderr)
            always.callback(os.close, stderr_write)
            request = Spawn(
                # Role and rank are read by people alone, in the list of processes.
                arguments=[sys.executable, "-P", _MAIN_FILE, member.role, str(member.rank), str(theirs.fileno())],
                environment=_environment(launch),
                keep=theirs.fileno(),
                stderr=stderr_write,
                stdout=None if launch.log_folder is None else stderr_write,
            )
            process = _forked(request, launch.code.preload) or spawn(request)
        except (OSError, ValueError) as error:
            raise WorkerError(
                f"cannot start {member.role} {member.rank}: {error}",
                next_step="ask for fewer members, or raise the limits on processes and files (ulimit -u, ulimit -n)",
                role=member.role,
                rank=member.rank,
                host=socket.gethostname(),
            ) from error
        on_failure.pop_all()
    return process, ours, stderr


def warm_up(launch: Launch) -> None:
    """Let a server begin to load what a member's code preloads, so that starting it soon waits the less.

    Nothing is promised: where no server can be started, the start itself will say so.
    """
    if launch.code.preload and can_fork():
        with suppress(OSError, ValueError):
            find_server(launch.code.preload, _environment(launch))


def orders_of(launch: Launch) -> bytes:
    """What a member reads first: who it is, and what it runs."""
    orders: dict[str, Any] = {
        "import_path": [str(Path(entry).absolute()) for entry in sys.path],  # "" means the current folder
        "role": launch.member.role,
        "rank": launch.member.rank,
        "world_size": launch.world_size,
        "module": launch.code.module,
        "qualname": launch.code.qualname,
        "payload": launch.code.payload,
        "config": dict(launch.code.config),
    }
    if launch.code.preload:
        orders["environment"] = _environment(launch)
        orders["folder"] = None
        # Ours may have been removed.
        with suppress(OSError):
            orders["folder"] = str(Path.cwd())
    return marshal.dumps(orders)


def _environment(launch: Launch) -> dict[str, str]:
    # What was printed into a pipe waits in a buffer, and a killed member would take it along. Forked members have this
    # in any case: those with a log and those without come from one server.
    at_once = {"PYTHONUNBUFFERED": "1"} if launch.log_folder is not None or launch.code.preload else {}
    return {**os.environ, **at_once, **launch.environment}


def _forked(request: Spawn, preload: tuple[str, ...]) -> Process | None:
    """The member as a fork, where its code allows that and the system can."""
    if not preload or not can_fork():
        return None
    order = Fork(
        arguments=request.arguments[2:],
        line=request.keep,
        stderr=request.stderr,
        stdout=1 if request.stdout is None else request.stdout,
    )
    # A server may end by itself in the moment in which it is found; one that cannot load ends each time.
    for _ in range(2):
        with suppress(ForkServerError):
            return find_server(preload, request.environment).fork(order)
    return None
