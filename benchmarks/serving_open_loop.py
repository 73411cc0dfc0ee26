"""A client that sends on schedule, whether or not answers come: `serving_open_loop.py --help`.

wrk sends when it was answered, so a server that slows down is asked less. Here requests are due at a fixed rate, and
latency counts from when a request was due. One thread and one epoll; connections have one request at a time, and their
number is the bound: what is due while all wait for answers is not sent, and counts as not answered.
"""

import argparse
import json
import os
import resource
import select
import signal
import socket
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from serving_bodies import read_pool

CONNECT_S = 2.0  # for all connections, before the first request
DRAIN_S = 2.0
RECONNECT_S = 0.02
REFUSALS = (429, 503)


@dataclass(eq=False, slots=True)
class Connection:
    """A socket, and the request that waits on it."""

    socket: socket.socket
    is_open: bool = False
    due_s: float = 0.0
    sent_s: float = 0.0  # 0: nothing waits
    received: bytes = b""


@dataclass
class Outcome:
    """What became of the requests."""

    counts: Counter = field(default_factory=Counter)
    due_s: list[float] = field(default_factory=list)  # of those answered with 200
    latency_s: list[float] = field(default_factory=list)  # since they were due
    refusal_s: list[float] = field(default_factory=list)  # since they were sent


class Client:
    """Sends a pool's requests at a rate, or as fast as answers come where the rate is 0."""

    def __init__(self, requests: list[bytes], port: int, num_connections: int) -> None:
        self._requests = requests
        self._address = ("127.0.0.1", port)
        self._epoll = select.epoll()
        self._connections: dict[int, Connection] = {}
        self._free: list[Connection] = []
        self._reconnect: deque[float] = deque()
        self._number = 0
        self.outcome = Outcome()
        for _ in range(num_connections):
            self._connect()

    def run(self, rate_per_s: float, seconds: float, kill: tuple[int, float] | None) -> float:
        """Send for this long, wait a little for the last answers, and return when it began."""
        opened = time.monotonic() + CONNECT_S
        while len(self._free) < len(self._connections) and time.monotonic() < opened:
            self._poll(0.05)
        began = time.monotonic()
        due, step = began, 1 / rate_per_s if rate_per_s else 0.0
        until = began + seconds
        while (now := time.monotonic()) < until:
            if kill and now >= began + kill[1]:
                os.kill(kill[0], signal.SIGKILL)
                kill = None
            if not step:
                while self._free:
                    self._send(now)
            while step and due <= now:
                self._send(due)
                due += step
            # epoll counts in whole milliseconds and rounds up: what is due sooner is sent up to 1 ms late.
            self._poll(max(0.0, min(due - now, until - now)) if step else 0.1)
        drained = time.monotonic() + DRAIN_S
        while any(each.sent_s for each in self._connections.values()) and time.monotonic() < drained:
            self._poll(0.05)
        self.outcome.counts["unanswered"] = sum(1 for each in self._connections.values() if each.sent_s)
        return began

    def _connect(self) -> None:
        made = socket.socket()
        made.setblocking(False)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        made.connect_ex(self._address)
        self._connections[made.fileno()] = Connection(made)
        self._epoll.register(made.fileno(), select.EPOLLIN | select.EPOLLOUT)

    def _send(self, due_s: float) -> None:
        counts = self.outcome.counts
        counts["due"] += 1
        if not self._free:
            counts["unsent"] += 1
            return
        # The one that was free last: connections beyond those that the server needs stay idle.
        connection = self._free.pop()
        request = self._requests[self._number % len(self._requests)]
        self._number += 1
        connection.due_s, connection.sent_s = due_s, time.monotonic()
        try:
            connection.socket.sendall(request)
        except OSError:
            self._lost(connection)

    def _poll(self, timeout_s: float) -> None:
        while self._reconnect and self._reconnect[0] <= time.monotonic():
            self._reconnect.popleft()
            self._connect()
        for number, events in self._epoll.poll(timeout_s):
            connection = self._connections[number]
            if events & (select.EPOLLERR | select.EPOLLHUP):
                self._lost(connection)
            elif not connection.is_open:
                connection.is_open = True
                self._epoll.modify(number, select.EPOLLIN)
                self._free.append(connection)
            else:
                self._receive(connection)

    def _receive(self, connection: Connection) -> None:
        try:
            received = connection.socket.recv(1 << 16)
        except OSError:
            received = b""
        if not received:
            self._lost(connection)
            return
        connection.received += received
        head, found, body = connection.received.partition(b"\r\n\r\n")
        if not found or not _is_whole(head := head.lower(), body):
            return
        self._answered(connection, int(head[9:12]), head)
        connection.received, connection.sent_s = b"", 0.0
        if b"connection: close" in head:
            self._lost(connection)
        else:
            self._free.append(connection)

    def _answered(self, connection: Connection, status: int, head: bytes) -> None:
        outcome, now = self.outcome, time.monotonic()
        if status == 200:
            outcome.due_s.append(connection.due_s)
            outcome.latency_s.append(now - connection.due_s)
        elif status in REFUSALS:
            outcome.refusal_s.append(now - connection.sent_s)
            outcome.counts["without_retry_after"] += b"retry-after:" not in head
        else:
            self._failed(f"status {status}")

    def _lost(self, connection: Connection) -> None:
        if connection.sent_s:
            self._failed("connection lost")
        elif connection in self._free:
            self._free.remove(connection)
        del self._connections[connection.socket.fileno()]
        connection.socket.close()
        self._reconnect.append(time.monotonic() + RECONNECT_S)

    def _failed(self, reason: str) -> None:
        self.outcome.counts["failed"] += 1
        self.outcome.counts[reason] += 1


def _is_whole(head: bytes, body: bytes) -> bool:
    if b"transfer-encoding: chunked" in head:
        return body.endswith(b"0\r\n\r\n")
    _, found, rest = head.partition(b"content-length:")
    return not found or len(body) >= int(rest.partition(b"\r\n")[0])


def main() -> None:
    """Send and print one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pool", type=Path)
    parser.add_argument("port", type=int)
    parser.add_argument("--rate", type=float, default=0.0, help="requests per second; 0: as fast as answers come")
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--connections", type=int, default=128)
    parser.add_argument("--target-s", type=float, default=0.1, help="a later answer is no good any more")
    parser.add_argument("--kill", type=int, help="send SIGKILL to this process")
    parser.add_argument("--kill-at-s", type=float, default=2.0)
    given = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    client = Client(read_pool(given.pool), given.port, given.connections)
    kill = (given.kill, given.kill_at_s) if given.kill else None
    used = time.process_time()
    began = client.run(given.rate, given.seconds, kill)
    used = time.process_time() - used
    outcome = client.outcome
    latency, due = np.array(outcome.latency_s), np.array(outcome.due_s) - began
    after = latency[(due >= given.kill_at_s) & (due < given.kill_at_s + 1)]
    found = {
        "answered": len(latency),
        "rate_per_s": len(latency) / given.seconds,
        "goodput_per_s": float((latency <= given.target_s).sum()) / given.seconds,
        "refused": len(outcome.refusal_s),
        "cores_used": used / given.seconds,
        **_percentiles("answer", latency),
        **_percentiles("refusal", np.array(outcome.refusal_s)),
        **(_percentiles("after_kill", after) if given.kill else {}),
        **{name: outcome.counts[name] for name in ("due", "unsent", "unanswered", "failed", "without_retry_after")},
        "reasons": {name: count for name, count in outcome.counts.items() if name.startswith(("status", "connection"))},
    }
    print(json.dumps(found))


def _percentiles(name: str, seconds: np.ndarray) -> dict[str, float | None]:
    if not len(seconds):
        return {f"{name}_p50_ms": None, f"{name}_p99_ms": None}
    return {f"{name}_p{part}_ms": 1_000 * float(np.percentile(seconds, part)) for part in (50, 99)}


if __name__ == "__main__":
    main()
