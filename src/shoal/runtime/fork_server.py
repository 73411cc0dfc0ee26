"""The process that members with the same needs are forked from, run as a file: `python fork_server.py <descriptor>`.

What all of them would import is loaded here once, and its memory is theirs together. Nothing else runs in this process,
so that no thread of ours is lost by forking.
"""

import atexit
import gc
import importlib
import marshal
import os
import select
import signal
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NoReturn

# One order; an import path is the largest thing in any.
MOST_BYTES = 1 << 16
# What an order to fork carries: the member's line to its supervisor, its stderr and its stdout.
NUM_DESCRIPTORS = 3
# As long as nobody asks for a member and none lives.
_IDLE_S = 60.0


def main() -> None:
    """Load, then fork as often as told, until the supervisor is gone or has asked for nothing for a minute."""
    descriptor = int(sys.argv[-1])
    os.set_inheritable(descriptor, False)
    # As in child.py: a fresh interpreter may not have the path that shoal was found on.
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))  # noqa: PTH100, PTH120
    from shoal.runtime.child import die_with_parent, live

    # Our members die with us in the same way, so none outlives the supervisor.
    die_with_parent(signal.SIGKILL)
    line = socket.socket(fileno=descriptor)
    first: dict[str, Any] = marshal.loads(line.recv(MOST_BYTES))  # noqa: S302  # from our own supervisor, over a private socket
    sys.path[:] = first["import_path"]
    # Modules leave no garbage worth a look. Later looks would write into the header of every object that they had made,
    # and so copy the pages that all share.
    gc.disable()
    for name in first["modules"]:
        importlib.import_module(name)
    gc.freeze()
    gc.enable()
    member = Server(line).serve()
    line.close()
    if member is not None:
        leave(lambda: live(member))


def leave(work: Callable[[], None]) -> NoReturn:
    """Work, then end this process with what an interpreter does for its user, but without taking itself apart.

    That would write into all that is shared with the other members, and lasts most of a second with a framework loaded.
    """
    code = 1
    try:
        work()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            sys.stderr.write(f"{end.code}\n")
    except BaseException:  # noqa: BLE001  # the last frame: there is nobody to raise to
        import traceback

        traceback.print_exc()
    finally:
        # In the interpreter's own order: threads that are not daemons, functions of atexit, buffers.
        threading._shutdown()  # type: ignore[attr-defined]  # noqa: SLF001  # what multiprocessing calls for its forks
        atexit._run_exitfuncs()  # noqa: SLF001  # see above
        with suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


class Server:
    """Forks, and tells of the ends of those that it forked."""

    def __init__(self, line: socket.socket) -> None:
        """Take orders from a line that keeps them apart."""
        self._line = line
        self._members: set[int] = set()
        self._told: set[int] = set()
        self._wake, self._woken = os.pipe()

    def serve(self) -> int | None:
        """Return None when there is nothing more to do; in a fork, the descriptor of the member's line."""
        os.set_blocking(self._woken, False)
        signal.set_wakeup_fd(self._woken, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        poll = select.poll()
        poll.register(self._line, select.POLLIN)
        poll.register(self._wake, select.POLLIN)
        while ready := poll.poll(None if self._members else 1e3 * _IDLE_S):
            if any(descriptor == self._wake for descriptor, _ in ready):
                os.read(self._wake, 4096)
                self._tell_ends()
            if any(descriptor == self._line.fileno() for descriptor, _ in ready):
                data, descriptors, _, _ = socket.recv_fds(self._line, MOST_BYTES, NUM_DESCRIPTORS)
                if not data:
                    break
                order = marshal.loads(data)  # noqa: S302  # see above
                if "reap" in order:
                    self._reap(order["reap"])
                elif (member := self._fork(order, descriptors)) is not None:
                    return member
        return None

    def _fork(self, order: dict[str, Any], descriptors: list[int]) -> int | None:
        """In the new process, the descriptor of its line."""
        try:
            pid = os.fork()
        except OSError as error:
            self._tell("refused", error.errno, error.strerror)
            pid = -1
        if pid == 0:
            return self._become_member(order, descriptors)
        for descriptor in descriptors:
            os.close(descriptor)
        if pid > 0:
            # Here too: whoever ends the member's group must find it, however early.
            with suppress(OSError):
                os.setpgid(pid, pid)
            self._members.add(pid)
            self._tell("forked", pid)
        return None

    def _become_member(self, order: dict[str, Any], descriptors: list[int]) -> int:
        with suppress(OSError):
            os.setpgid(0, 0)
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        line, stderr, stdout = descriptors
        # What comes over a socket would go on to whatever this process starts, and keep the line open.
        os.set_inheritable(line, False)
        for descriptor, standard in ((stdout, 1), (stderr, 2)):
            os.dup2(descriptor, standard)
            os.close(descriptor)
        os.close(self._wake)
        os.close(self._woken)
        sys.argv = list(order["arguments"])
        if "numpy" in sys.modules:
            # Python's own generator reseeds itself in a fork; numpy's does not.
            import numpy as np

            np.random.seed()  # the global one, which users may use
        return line

    def _tell_ends(self) -> None:
        """Their ids stay taken until they are reaped, so that nobody ends a stranger."""
        for pid in self._members - self._told:
            if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None:
                self._told.add(pid)
                self._tell("ended", pid)

    def _reap(self, pid: int) -> None:
        _, status = os.waitpid(pid, 0)
        self._members.discard(pid)
        self._told.discard(pid)
        self._tell("reaped", pid, os.waitstatus_to_exitcode(status))

    def _tell(self, *words: str | int | None) -> None:
        # The supervisor may be gone: the next look at the line says so.
        with suppress(OSError):
            self._line.send(marshal.dumps(words))


if __name__ == "__main__":
    main()
