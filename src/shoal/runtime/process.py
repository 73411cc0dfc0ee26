"""One child process: start it, talk with it, see its death, leave nothing behind."""

import marshal
import os
import signal
import socket
import threading
from contextlib import suppress

from shoal.runtime.base import LOOPBACK, Exited
from shoal.runtime.failure import Ending, failure_of
from shoal.runtime.frames import BOOT, FAILURE, Message, decode_message, encode_message, read_frame, write_frame
from shoal.runtime.running import Launch, Listener
from shoal.runtime.starting import orders_of, start_process
from shoal.runtime.stderr import StderrTail

# How long a member may take to exit after its entry raised: a stray thread must not hide the failure.
_FAILED_EXIT_S = 5.0
# How long a pipe may stay open after the member's death: only a process that left its group can hold it.
_DRAIN_S = 1.0


class Child:
    """A running member. Any thread may call any method.

    Three threads serve it: one reads its reports, one its stderr, one waits for its end.
    """

    def __init__(self, launch: Launch, *, host: str = LOOPBACK) -> None:
        """Start the process; nothing is heard of it before `attend`. `host` is what the others call this machine.

        Raises:
            WorkerError: the system does not let us.
        """
        self.member = launch.member
        self.is_dead = False
        self._launch = launch
        self._host = host
        self._sending = threading.Lock()
        # Held to signal and to reap: once its process is reaped, a process id may be a stranger's.
        self._reaping = threading.Lock()
        self._failure: dict[str, str] | None = None
        self._overdue: threading.Timer | None = None
        self._stop_asked = False
        self._gone = threading.Event()
        self._orders = orders_of(launch)
        self._process, self._socket, self._stderr = start_process(launch)
        self.pid = self._process.pid

    def boot(self) -> None:
        """Tell it what to run; call once, before anything is sent."""
        self._write(BOOT, self._orders)

    def attend(self, listener: Listener) -> None:
        """Begin to listen; call once, after `boot`."""
        self._listener = listener
        listener.started(self, self._host)
        log_folder, member = self._launch.log_folder, self.member
        tail = StderrTail(self._stderr, log_folder and log_folder / f"{member.role}-{member.rank}.log")
        reader = threading.Thread(target=self._read_reports, name=f"shoal-read-{self.pid}", daemon=True)
        waiter = threading.Thread(target=self._see_end, args=(reader, tail), name=f"shoal-{self.pid}", daemon=True)
        reader.start()
        waiter.start()

    def discard(self) -> None:
        """End a child that nobody attends."""
        _kill_group(self.pid)
        self._process.reap()
        self._socket.close()
        os.close(self._stderr)

    def send(self, message: Message) -> None:
        """Hand it a message; lost when it is dead."""
        self._write(*encode_message(message))

    def forward(self, kind: int, body: bytes) -> None:
        """Hand it a message that another process has encoded; lost when it is dead."""
        self._write(kind, body)

    @property
    def is_ending(self) -> bool:
        """Whether its last reports are under way, and must not wait for room."""
        return self.is_dead

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
        self._process.await_death()
        with self._reaping:
            # What it had started goes with it; its id stays taken until it is reaped, on the next line.
            _kill_group(self.pid)
            return_code = self._process.reap()
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
                next_step=self._failure["next_step"] if self._failure else "",
                traceback_text=self._failure["traceback"] if self._failure else "",
                stderr_tail=stderr_tail,
            )
        )
        exit_code, signal_number = (return_code, None) if return_code >= 0 else (None, -return_code)
        return Exited(self.member, self.pid, exit_code, signal_number, failure)


def _kill_group(pid: int) -> None:
    # Nobody may be left in it; macOS calls that a lack of permission.
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
