"""One child process: start it, talk with it, see its death, leave nothing behind."""

import marshal
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Protocol

from shoal.base import WorkerError
from shoal.runtime.base import Exited, Member
from shoal.runtime.code import Code
from shoal.runtime.failure import Ending, failure_of
from shoal.runtime.frames import BOOT, FAILURE, Message, decode_message, encode_message, read_frame, write_frame
from shoal.runtime.spawning import Spawn, spawn
from shoal.runtime.stderr import StderrTail

# How long a member may take to exit after its entry raised: a stray thread must not hide the failure.
_FAILED_EXIT_S = 5.0
# How long a pipe may stay open after the member's death: only a process that left its group can hold it.
_DRAIN_S = 1.0
_MAIN_FILE = str(Path(__file__).with_name("child.py"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """What to start; `world_size` counts the members of its role."""

    member: Member
    code: Code
    world_size: int
    environment: Mapping[str, str]
    log_folder: Path | None


class Listener(Protocol):
    """Who is told of a child's life; called from the child's own threads."""

    def wait_for_room(self, child: "Child") -> None:
        """Return when the child's next report may come; at once when the child is dead."""
        ...

    def reported(self, child: "Child", message: Message) -> None:
        """Take a report, in order."""
        ...

    def died(self, child: "Child") -> None:
        """Learn that the process is gone; what it had reported may still come."""
        ...

    def exited(self, child: "Child", event: Exited) -> None:
        """Learn how it ended, after all else; called once."""
        ...


class Child:
    """A running member. Any thread may call any method.

    Three threads serve it: one reads its reports, one its stderr, one waits for its end.
    """

    def __init__(self, launch: Launch) -> None:
        """Start the process; nothing is heard of it before `attend`.

        Raises:
            WorkerError: the system does not let us.
        """
        self.member = launch.member
        self.is_dead = False
        self._launch = launch
        self._sending = threading.Lock()
        # Held to signal and to reap: once its process is reaped, a process id may be a stranger's.
        self._reaping = threading.Lock()
        self._failure: dict[str, str] | None = None
        self._overdue: threading.Timer | None = None
        self._stop_asked = False
        self._gone = threading.Event()
        self._orders = _orders(launch)
        self._popen, self._socket, self._stderr = _start(launch)
        self.pid = self._popen.pid

    def boot(self) -> None:
        """Tell it what to run; call once, before anything is sent."""
        self._write(BOOT, self._orders)

    def attend(self, listener: Listener) -> None:
        """Begin to listen; call once, after `boot`."""
        self._listener = listener
        log_folder, member = self._launch.log_folder, self.member
        tail = StderrTail(self._stderr, log_folder and log_folder / f"{member.role}-{member.rank}.log")
        reader = threading.Thread(target=self._read_reports, name=f"shoal-read-{self.pid}", daemon=True)
        waiter = threading.Thread(target=self._see_end, args=(reader, tail), name=f"shoal-{self.pid}", daemon=True)
        reader.start()
        waiter.start()

    def discard(self) -> None:
        """End a child that nobody attends."""
        _kill_group(self.pid)
        self._popen.wait()
        self._socket.close()
        os.close(self._stderr)

    def send(self, message: Message) -> None:
        """Hand it a message; lost when it is dead."""
        self._write(*encode_message(message))

    def terminate(self) -> None:
        """Ask it to stop (SIGTERM); its end will be in order, unless its entry raises."""
        self._stop_asked = True
        with self._reaping, suppress(ProcessLookupError):
            if not self.is_dead:
                os.kill(self.pid, signal.SIGTERM)

    def kill(self) -> None:
        """End it now, with the processes that it has started."""
        with self._reaping:
            if not self.is_dead:
                _kill_group(self.pid)

    def wait(self, timeout_s: float | None = None) -> bool:
        """Return when it is gone, all was told and nothing of it is open here; False if `timeout_s` passed first."""
        return self._gone.wait(timeout_s)

    def _write(self, kind: int, body: bytes | bytearray | memoryview) -> None:
        # It may have died: its Exited event tells, and says why.
        with self._sending, suppress(OSError):
            write_frame(self._socket.fileno(), kind, body)

    def _read_reports(self) -> None:
        while True:
            self._listener.wait_for_room(self)
            frame = read_frame(self._socket.fileno())
            if frame is None:
                return
            if frame[0] != FAILURE:
                self._listener.reported(self, decode_message(*frame))
                continue
            self._failure = marshal.loads(frame[1])  # noqa: S302  # from our own child, over a private socket
            self._overdue = threading.Timer(_FAILED_EXIT_S, self.kill)
            self._overdue.daemon = True
            self._overdue.start()

    def _see_end(self, reader: threading.Thread, tail: StderrTail) -> None:
        _await_death(self._popen)
        with self._reaping:
            # What it had started goes with it; its id stays taken until it is reaped, on the next line.
            _kill_group(self.pid)
            return_code = self._popen.wait()
            self.is_dead = True
        self._listener.died(self)
        reader.join(_DRAIN_S)
        # Whoever left the group with our socket would keep the reader waiting.
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        reader.join()
        with self._sending:
            self._socket.close()
        if self._overdue is not None:
            self._overdue.cancel()
        self._listener.exited(self, self._describe_end(return_code, tail.text(_DRAIN_S)))
        self._gone.set()

    def _describe_end(self, return_code: int, stderr_tail: str) -> Exited:
        failure = failure_of(
            Ending(
                member=self.member,
                pid=self.pid,
                return_code=return_code,
                stop_asked=self._stop_asked,
                summary=self._failure["summary"] if self._failure else None,
                traceback_text=self._failure["traceback"] if self._failure else "",
                stderr_tail=stderr_tail,
            )
        )
        exit_code, signal_number = (return_code, None) if return_code >= 0 else (None, -return_code)
        return Exited(self.member, self.pid, exit_code, signal_number, failure)


def stop_all(children: Iterable[Child], grace_s: float) -> None:
    """Return when all are gone: SIGTERM to each, SIGKILL to those that are left after `grace_s`."""
    running = list(children)
    for child in running:
        child.terminate()
    deadline = monotonic() + grace_s
    for child in running:
        if not child.wait(max(0.0, deadline - monotonic())):
            child.kill()
    for child in running:
        child.wait()


def _start(launch: Launch) -> tuple["subprocess.Popen[bytes]", socket.socket, int]:
    """The process, our end of its socket, and the read end of its stderr."""
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
                environment={**os.environ, **launch.environment},
                keep=theirs.fileno(),
                stderr=stderr_write,
            )
            process = spawn(request)
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


def _orders(launch: Launch) -> bytes:
    orders = {
        "import_path": [str(Path(entry).absolute()) for entry in sys.path],  # "" means the current folder
        "role": launch.member.role,
        "rank": launch.member.rank,
        "world_size": launch.world_size,
        "module": launch.code.module,
        "qualname": launch.code.qualname,
        "payload": launch.code.payload,
        "config": dict(launch.code.config),
    }
    return marshal.dumps(orders)


def _await_death(process: "subprocess.Popen[bytes]") -> None:
    """Return when the process has ended; leave its id taken where the system can (not on macOS before Python 3.13)."""
    # Somebody else may have reaped it, as who ignores SIGCHLD does.
    with suppress(ChildProcessError):
        if hasattr(os, "waitid"):
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        else:
            process.wait()


def _kill_group(pid: int) -> None:
    # Nobody may be left in it; macOS calls that a lack of permission.
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
