"""Every server that is measured: how it starts, what it is asked, which processes it has, and how it ends."""

import ctypes
import functools
import os
import resource
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import numpy as np
from data_environments import PEERS, SERVING, SERVING_MLSERVER, SERVING_TRITON, Environment, MissingPeerError
from serving_bodies import FORMS, read_pool, read_scores
from serving_model import SIDE

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 5.0
NUM_REPLICAS = 2
# Of scores near 1: batches of other sizes are added up in another order.
TOLERANCE = 1e-4


@dataclass(frozen=True)
class Kind:
    """A server: its driver under `peers/` (None for shoal's own command), and the forms of request that it takes.

    Its driver gets three ports, for HTTP, gRPC and metrics, and then the arguments.
    """

    name: str
    environment: Environment | None
    driver: str | None
    json: str
    binary: str | None = None
    has_grpc: bool = False
    arguments: tuple[str, ...] = ()

    def command(self, model: Path, ports: "Ports") -> list[str]:
        """Return what starts it.

        Raises:
            MissingPeerError: its environment could not be made.
        """
        if self.environment is None:
            command = [str(Path(sys.executable).with_name("shoal")), "serve", "run", str(model)]
            # No prediction log, as no peer has one. Validation, prediction ids and metrics have no switch.
            command += ["--port", str(ports.http), "--replicas", str(NUM_REPLICAS)]
            return [*command, "--grpc-port", str(ports.grpc)] if "--grpc-port" in shoal_options() else command
        numbers = [str(port) for port in (ports.http, ports.grpc, ports.metrics)]
        return [self.environment.python(), "-W", "ignore", str(PEERS / f"{self.driver}.py"), *numbers, *self.arguments]


@functools.cache
def shoal_options() -> str:
    """Return the help of `shoal serve run`: it tells which bars can be measured."""
    command = [str(Path(sys.executable).with_name("shoal")), "serve", "run", "--help"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


SHOAL = "shoal"
KINDS = {
    kind.name: kind
    for kind in (
        Kind(SHOAL, None, None, "open json", "open binary", has_grpc=True),
        # With as many clients as a batch holds, one worker takes them all and the other has nothing to do: half of it
        # is then better, and worse when there are more clients.
        Kind("mosec 32", SERVING, "serving_mosec", "plain json", "plain binary", arguments=("32",)),
        Kind("mosec 16", SERVING, "serving_mosec", "plain json", "plain binary", arguments=("16",)),
        Kind("fastapi", SERVING, "serving_fastapi", "plain json", "plain binary"),
        Kind("triton", SERVING_TRITON, "serving_triton", "open json", "open binary", has_grpc=True),
        Kind("mlserver", SERVING_MLSERVER, "serving_mlserver", "open json", has_grpc=True),
        Kind("bentoml", SERVING, "serving_bentoml", "rows json"),
        Kind("litserve", SERVING, "serving_litserve", "plain json"),
        Kind("ray", SERVING, "serving_ray", "plain json", "plain binary"),
    )
}


@dataclass(frozen=True)
class Ports:
    """Free ports of this machine."""

    http: int
    grpc: int
    metrics: int

    @classmethod
    def free(cls) -> Self:
        """Choose three."""
        sockets = [socket.socket() for _ in range(3)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        numbers = [each.getsockname()[1] for each in sockets]
        for each in sockets:
            each.close()
        return cls(*numbers)


@dataclass
class Server:
    """A running server, as a context: it has answered once when the block begins, and nothing is left when it ends.

    `adopt_orphans` was called before: what a server forgets to end is found among this process's descendants.
    """

    kind: Kind
    model: Path
    pools: Mapping[str, Path]
    expected: np.ndarray  # float32 [10]: the scores of each pool's first image
    ports: Ports = field(default_factory=Ports.free)
    start_s: float = 0.0
    status_of_short: int = 0  # what it answers to an image that lacks a column

    def __enter__(self) -> Self:
        self._said: IO[bytes] = tempfile.TemporaryFile()
        command = self.kind.command(self.model, self.ports)
        began = time.perf_counter()
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=self._said,
            stderr=subprocess.STDOUT,
            cwd=self.model.parent,
            env=_environment(self.kind, self.model),
            start_new_session=True,
        )
        try:
            self._await_answer(began)
            self._check()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def memory_mb(self) -> float:
        """Memory of all its processes, in which pages that several share are counted once (Pss)."""
        return sum(_pss_bytes(pid) for pid in self.pids()) / 1e6

    def pids(self) -> list[int]:
        """All its processes."""
        return [self._process.pid, *_descendants(self._process.pid)]

    def replica(self) -> int:
        """The process that runs the model and has worked most so far."""
        running = [pid for pid in self.pids() if "onnxruntime" in _read(pid, "maps")]
        if not running:
            raise MissingPeerError(f"{self.kind.name}: none of its processes runs the model")
        return max(running, key=_cpu_ticks)

    def _await_answer(self, began: float) -> None:
        request, status = read_pool(self.pools[self.kind.json])[0], 0
        while time.perf_counter() - began < START_TIMEOUT_S:
            status, _ = ask(self.ports.http, request)
            if status == 200:
                self.start_s = time.perf_counter() - began
                return
            if self._process.poll() is not None:
                break
            time.sleep(0.002)
        raise MissingPeerError(f"{self.kind.name} gave no answer (status {status}): {self._last_words()}")

    def _check(self) -> None:
        """What it answers is what the model says; and how it refuses is kept."""
        for form in filter(None, (self.kind.json, self.kind.binary)):
            request = read_pool(self.pools[form])[0]
            status, body = ask(self.ports.http, request, timeout_s=10)
            if status != 200 or not np.allclose(read_scores(form, body), self.expected, atol=TOLERANCE):
                raise MissingPeerError(f"{self.kind.name} answers {form} wrongly: {status} {body[:200]!r}")
        short = FORMS[self.kind.json](np.zeros((SIDE, SIDE - 1), np.uint8))
        self.status_of_short, _ = ask(self.ports.http, short, timeout_s=10)

    def _last_words(self) -> str:
        self._said.seek(0)
        lines = self._said.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else f"exit code {self._process.poll()}"

    def _stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        # Whoever is left was adopted by this process; killed parents may have children that are adopted in turn.
        until = time.monotonic() + STOP_TIMEOUT_S
        while (left := _descendants(os.getpid())) and time.monotonic() < until:
            for pid in left:
                _kill(pid)
            _reap()
            time.sleep(0.01)
        self._said.close()


def adopt_orphans() -> None:
    """Make this process the parent of descendants that lose theirs, so that none of them escapes `Server`."""
    set_child_subreaper = 36
    ctypes.CDLL(None, use_errno=True).prctl(set_child_subreaper, 1, 0, 0, 0)
    # A benchmark that is told to end still leaves its blocks, and with them ends its servers.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


def ask(port: int, request: bytes, timeout_s: float = 5.0) -> tuple[int, bytes]:
    """Send one request on a connection of its own and return (status, body); status 0 when nothing came."""
    received = b""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout_s) as connection:
            connection.settimeout(timeout_s)
            connection.sendall(request.replace(b"\r\n", b"\r\nConnection: close\r\n", 1))
            while part := connection.recv(1 << 16):
                received += part
    except OSError:
        return 0, b""
    head, _, body = received.partition(b"\r\n\r\n")
    if b"transfer-encoding: chunked" in head.lower():
        body = body.partition(b"\r\n")[2].partition(b"\r\n")[0]
    return (int(head[9:12]), body) if head else (0, b"")


def _environment(kind: Kind, model: Path) -> dict[str, str]:
    # What they leave behind when they are killed goes with the model's folder.
    named = {"OMP_NUM_THREADS": "1", "BENCH_MODEL": str(model), "TMPDIR": str(model.parent), "PYTHONPATH": str(PEERS)}
    if kind.name == SHOAL:
        del named["PYTHONPATH"]
    if kind.environment is SERVING_TRITON:
        # Triton runs Python by a program of its own, which must find this Python's library and not the system's.
        named["LD_LIBRARY_PATH"] = sysconfig.get_config_var("LIBDIR")
    return {**os.environ, **named}


def _descendants(pid: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*"):
        fields = _read(int(stat.name), "stat").rpartition(")")[2].split()
        if fields:
            children.setdefault(int(fields[1]), []).append(int(stat.name))

    def below(parent: int) -> Iterator[int]:
        for child in children.get(parent, ()):
            yield child
            yield from below(child)

    return list(below(pid))


def _read(pid: int, name: str) -> str:
    """A file of a process in /proc; empty when it is gone."""
    try:
        return Path(f"/proc/{pid}/{name}").read_text()
    except OSError:
        return ""


def _pss_bytes(pid: int) -> int:
    lines = [line for line in _read(pid, "smaps_rollup").splitlines() if line.startswith("Pss:")]
    return 1_024 * int(lines[0].split()[1]) if lines else 0


def _cpu_ticks(pid: int) -> int:
    fields = _read(pid, "stat").rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12]) if fields else 0


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _reap() -> None:
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def children_cpu_s() -> float:
    """CPU seconds of all children that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
