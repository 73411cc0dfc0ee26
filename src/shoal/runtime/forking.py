"""Starting members by forking a process that has loaded what they need: milliseconds, where an import takes seconds.

A fork server lives as long as members of it do, and a minute longer. It and its members see the environment, import
path and limits of the moment it was started, so a caller with others gets another server. Linux alone: elsewhere forks
of processes with frameworks in them are not safe, or no system call ends them with their parent.
"""

import marshal
import os
import socket
import sys
import threading
from collections.abc import Hashable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from shoal.runtime.fork_server import MOST_BYTES
from shoal.runtime.spawning import Spawn, spawn

_MAIN_FILE = str(Path(__file__).with_name("fork_server.py"))
# Variables that no library reads while it is loaded; what others say may decide what it becomes.
_READ_LATE = ("SHOAL_", "PYTEST_CURRENT_TEST", "COLUMNS", "LINES", "PWD", "OLDPWD", "SHLVL")
# Servers without members that are kept for whoever asks next.
_MOST_IDLE = 2


class ForkServerError(Exception):
    """There is no such server: it could not load what it should, or it has just ended. Start the member otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fork:
    """One member to fork: what it says of itself in `sys.argv`, and the descriptors that it takes over."""

    arguments: Sequence[str]
    line: int
    stderr: int
    stdout: int


class ForkedProcess:
    """A process that is the server's child, as its supervisor here sees it."""

    def __init__(self, pid: int, server: "ForkServer") -> None:
        """Know it by its id, which stays taken until `reap`."""
        self.pid = pid
        self.server = server
        self.ended = threading.Event()
        # Nobody waits for it: who asked for it was interrupted.
        self.is_abandoned = False
        self.return_code: Future[int] = Future()

    def await_death(self) -> None:
        """Return when it has ended."""
        self.ended.wait()

    def reap(self) -> int:
        """Give its id back; return its exit code, or its signal as a negative number."""
        self.server.reap(self)
        return self.return_code.result()


class ForkServer:
    """One server, as its users see it. Any thread may call any method."""

    def __init__(self, preload: Sequence[str], environment: Mapping[str, str]) -> None:
        """Start it; it loads while the caller goes on.

        Raises:
            OSError: the system refuses another process.
        """
        self._asking = threading.Lock()
        self._lock = threading.Lock()
        self._answer: Future[ForkedProcess] | None = None
        self._processes: dict[int, ForkedProcess] = {}
        self._is_over = False
        self._line, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ExitStack() as on_failure, theirs, open(os.devnull, "wb") as nowhere:  # noqa: PTH123  # a device
            on_failure.enter_context(self._line)
            # What loading prints would be printed once for all members, and is nobody's.
            self._popen = spawn(
                Spawn(
                    arguments=[sys.executable, "-P", _MAIN_FILE, str(theirs.fileno())],
                    environment=environment,
                    keep=theirs.fileno(),
                    stderr=nowhere.fileno(),
                    stdout=nowhere.fileno(),
                )
            )
            on_failure.pop_all()
        path = [str(Path(entry).absolute()) for entry in sys.path]
        self._line.send(marshal.dumps({"import_path": path, "modules": list(preload)}))
        threading.Thread(target=self._listen, name=f"shoal-fork-server-{self._popen.pid}", daemon=True).start()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._popen.pid

    @property
    def is_over(self) -> bool:
        """Whether it has ended, or soon will have."""
        return self._is_over

    @property
    def is_idle(self) -> bool:
        """Whether no member of it lives."""
        return not self._processes

    def fork(self, request: Fork) -> ForkedProcess:
        """Fork a member that leads a process group of its own; waits while the server loads.

        Raises:
            ForkServerError: the server is no more.
            OSError: the system refuses another process.
        """
        order = marshal.dumps({"arguments": list(request.arguments)})
        with self._asking:
            answer: Future[ForkedProcess] = Future()
            with self._lock:
                if self._is_over:
                    raise ForkServerError
                self._answer = answer
            try:
                socket.send_fds(self._line, [order], [request.line, request.stderr, request.stdout])
            except OSError as error:
                raise ForkServerError from error
            try:
                return answer.result()
            except KeyboardInterrupt:
                answer.add_done_callback(_abandon)
                raise

    def reap(self, process: ForkedProcess) -> None:
        """Let the server wait for a process that has ended, so that its `return_code` comes."""
        with suppress(OSError):
            self._line.send(marshal.dumps({"reap": process.pid}))

    def close(self) -> None:
        """End it, and members that still live."""
        with suppress(OSError):
            self._line.shutdown(socket.SHUT_RDWR)

    def drop(self) -> None:
        """Forget it in a forked copy of this process, whose server it is not."""
        self._is_over = True
        self._line.close()

    def _listen(self) -> None:
        with suppress(OSError):
            while data := self._line.recv(MOST_BYTES):
                self._take(*marshal.loads(data))  # noqa: S302  # from our own child, over a private socket
        self._end()

    def _take(self, what: str, *facts: object) -> None:
        with self._lock:
            match what, *facts:
                case "forked", int(pid):
                    # Known before the caller has it: its end may be the next thing that is told.
                    self._processes[pid] = process = ForkedProcess(pid, self)
                    self._answered().set_result(process)
                case "refused", int(number), str(text):
                    self._answered().set_exception(OSError(number, text))
                case "ended", int(pid):
                    process = self._processes[pid]
                    process.ended.set()
                    if process.is_abandoned:
                        self.reap(process)
                case "reaped", int(pid), int(return_code):
                    self._processes.pop(pid).return_code.set_result(return_code)

    def _answered(self) -> "Future[ForkedProcess]":
        answer, self._answer = self._answer, None
        return answer or Future()

    def _end(self) -> None:
        """Members die with their server, by SIGKILL."""
        with self._lock:
            self._is_over = True
            left, self._processes = list(self._processes.values()), {}
            if self._answer is not None:
                self._answered().set_exception(ForkServerError())
        for process in left:
            process.return_code.set_result(-9)
            process.ended.set()
        self._line.close()
        self._popen.wait()


def _abandon(answer: "Future[ForkedProcess]") -> None:
    """Let a process that nobody will wait for be forgotten at its end, which is near: its line is closed."""
    if answer.exception() is None:
        answer.result().is_abandoned = True


def can_fork() -> bool:
    """Whether this system has what forked members need."""
    return sys.platform == "linux"


def find_server(preload: Sequence[str], environment: Mapping[str, str]) -> ForkServer:
    """The server that has loaded these modules under these circumstances; started if there is none.

    Raises:
        OSError: the system refuses another process.
    """
    key = _circumstances(preload, environment)
    with _lock:
        for other, server in list(_servers.items()):
            if server.is_over:
                del _servers[other]
        if key not in _servers:
            idle = [server for server in _servers.values() if server.is_idle]
            for server in idle[: max(0, len(idle) - _MOST_IDLE + 1)]:
                server.close()
            _servers[key] = ForkServer(preload, environment)
        return _servers[key]


def _circumstances(preload: Sequence[str], environment: Mapping[str, str]) -> Hashable:
    import resource

    names = [name for name in dir(resource) if name.startswith("RLIMIT_")]
    limits = tuple(resource.getrlimit(getattr(resource, name)) for name in names)
    read_early = frozenset((name, value) for name, value in environment.items() if not name.startswith(_READ_LATE))
    return tuple(preload), tuple(sys.path), read_early, limits, frozenset(os.sched_getaffinity(0))


_lock = threading.Lock()
_servers: dict[Hashable, ForkServer] = {}


def _forget_servers() -> None:
    global _lock  # a forked process has no sane lock
    _lock = threading.Lock()
    for server in _servers.values():
        server.drop()
    _servers.clear()


os.register_at_fork(after_in_child=_forget_servers)
