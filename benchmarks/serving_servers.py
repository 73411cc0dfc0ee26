"""A server that is being measured: started, asked, looked at and ended."""

import json
import os
import socket
import subprocess
import sysconfig
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import numpy as np
from data_environments import PEERS, SERVING_TRITON, MissingPeerError
from serving_bodies import FORMS, read_pool, read_scores
from serving_kinds import Kind, Ports
from serving_model import SIDE
from serving_processes import cpu_seconds, descendants, end_descendants, has_mapped, memory_bytes

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 5.0
# Of scores near 1: batches of other sizes are added up in another order.
TOLERANCE = 1e-4


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
    start_s: float = 0.0  # from the command to the first answer
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

    def pids(self) -> list[int]:
        """All its processes."""
        return [self._process.pid, *descendants(self._process.pid)]

    def roles(self) -> dict[str, list[int]]:
        """Its processes by what they do: of shoal's own "front", "replica" and "supervisor", else "server" for all."""
        if not self.kind.is_shoal:
            return {"server": self.pids()}
        told = self._told()
        known = {"front": told["fronts"], "replica": told["replicas"]}
        others = set(self.pids()).difference(*known.values())
        return {**known, "supervisor": sorted(others)}

    def memory_mb(self) -> dict[str, float]:
        """Memory of its processes by role and way of counting, as "front Pss"."""
        found: dict[str, float] = {}
        for role, pids in self.roles().items():
            for pid in pids:
                for way, size in memory_bytes(pid).items():
                    name = f"{role} {way}"
                    found[name] = found.get(name, 0.0) + size / 1e6
        return found

    def replica(self) -> int:
        """The process that runs the model and has worked most so far."""
        running = [pid for pid in self.pids() if has_mapped(pid, "onnxruntime")]
        if not running:
            raise MissingPeerError(f"{self.kind.name}: none of its processes runs the model")
        return max(running, key=lambda pid: cpu_seconds(pid).total)

    def batches(self) -> tuple[int, float]:
        """How many batches shoal has run so far, and the rows in all of them."""
        told = self._versions()
        return sum(each["batches"]["count"] for each in told), sum(
            each["batches"]["count"] * each["batches"]["mean_rows"] for each in told
        )

    def cache_counts(self) -> tuple[int, int]:
        """Requests that shoal's prediction cache has answered so far, and those that it has not."""
        told = [each["cache"] for each in self._versions()]
        return sum(each["hits"] for each in told), sum(each["misses"] for each in told)

    def _versions(self) -> list[dict]:
        _, body = ask(self.ports.http, b"GET /status HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        models = json.loads(body)["models"].values()
        return [version for model in models for version in model["versions"].values()]

    def _told(self) -> dict:
        """What shoal prints when it serves: it may do so after its first answer."""
        until = time.monotonic() + STOP_TIMEOUT_S
        while time.monotonic() < until:
            said = self._words()
            with suppress(ValueError):
                return json.JSONDecoder().raw_decode(said, said.index("{"))[0]
            time.sleep(0.01)
        raise MissingPeerError(f"{self.kind.name} did not print which processes it has")

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
        lines = self._words().strip().splitlines()
        return lines[-1] if lines else f"exit code {self._process.poll()}"

    def _words(self) -> str:
        # Read without moving: the place in the file is the server's as well, and it goes on writing there.
        return os.pread(self._said.fileno(), 1 << 20, 0).decode(errors="replace")

    def _stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        # Whoever is left was adopted by this process.
        end_descendants(STOP_TIMEOUT_S)
        self._said.close()


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
    if kind.is_shoal:
        del named["PYTHONPATH"]
    elif kind.target_s:
        named["BENCH_TARGET_S"] = str(kind.target_s)
    if kind.environment is SERVING_TRITON:
        # Triton runs Python by a program of its own, which must find this Python's library and not the system's.
        named["LD_LIBRARY_PATH"] = sysconfig.get_config_var("LIBDIR")
    return {**os.environ, **named}
