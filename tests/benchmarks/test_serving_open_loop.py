"""The client that sends on schedule: every request that was due is told of, in the way in which it ended."""

import shutil
import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import serving_open_loop
from serving_open_loop import LOST, RECORD, UNANSWERED, UNSENT, account, measure

GOOD = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"
BUSY = b"HTTP/1.1 503 Busy\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n"
CURT = b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"
LAST = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
NEVER: bytes | None = b""
HANG_UP: bytes | None = None


def _records(*rows: tuple[float, float, float, int, int]) -> np.ndarray:
    return np.array(list(rows), RECORD)


def test_latency_counts_from_when_a_request_was_due() -> None:
    found = account(_records((0.0, 0.5, 0.6, 200, 0), (0.1, 0.5, 0.55, 503, 1)), 1.0, target_s=0.2)

    assert found["answer_p50_ms"] == pytest.approx(600)
    assert found["goodput_per_s"] == 0
    assert found["rate_per_s"] == 1
    assert found["refusal_p50_ms"] == pytest.approx(50)  # it says how quick the server is, so from when it was asked
    assert found["behind_p99_ms"] == pytest.approx(500, rel=0.02)


def test_tells_how_each_request_ended() -> None:
    ends = (200, 503, 429, 500, UNANSWERED, UNSENT, LOST)

    found = account(_records(*((0.0, 0.0, 0.1, end, 0) for end in ends)), 1.0, target_s=1.0)

    assert (found["due"], found["answered"], found["refused"], found["other"]) == (7, 1, 2, 4)
    assert found["without_retry_after"] == 2
    assert found["reasons"] == {"status 500": 1, "unanswered": 1, "unsent": 1, "connection lost": 1}


def test_looks_at_the_second_after_the_kill_alone() -> None:
    records = _records((1.0, 1.0, 1.9, 200, 0), (2.5, 2.5, 2.6, 200, 0), (3.5, 3.5, 9.0, 200, 0))

    found = account(records, 4.0, target_s=1.0, kill_at_s=2.0)

    assert found["after_kill_p99_ms"] == pytest.approx(100)


@contextmanager
def _server(answer: Callable[[int], bytes | None]) -> Iterator[int]:
    """A server whose answer to its n-th request is this; `HANG_UP` closes the connection, `NEVER` says nothing."""
    counts = iter(range(10**9))

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            while self.rfile.readline():
                while self.rfile.readline() != b"\r\n":
                    """The head."""
                said = answer(next(counts))
                if said is HANG_UP:
                    return
                self.wfile.write(said)

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        block_on_close = False

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def pool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    if shutil.which("cc") is None:
        pytest.skip("the client is built by a C compiler")
    monkeypatch.setattr(serving_open_loop, "BENCH", tmp_path / "built")
    request = b"GET / HTTP/1.1\r\nHost: here\r\n\r\n"
    path = tmp_path / "requests.pool"
    path.write_bytes(f"{len(request):08d}".encode() + request)
    return path


def test_reads_every_form_of_answer(pool: Path) -> None:
    said = (GOOD, CHUNKED, BUSY, CURT, LAST)

    with _server(lambda number: said[number % 5]) as port:
        found = measure(pool, port, seconds=0.5, rate=200, connections=8)

    assert found["due"] == 100
    assert (found["answered"], found["refused"], found["other"]) == (60, 40, 0)
    assert found["without_retry_after"] == 20


def test_goes_on_when_connections_are_lost(pool: Path) -> None:
    with _server(lambda number: HANG_UP if number % 10 == 0 else GOOD) as port:
        found = measure(pool, port, seconds=0.5, rate=200, connections=16)

    assert found["due"] == 100
    assert found["reasons"] == {"connection lost": 10}
    assert found["answered"] == 90


def test_counts_what_could_not_be_sent_as_due(pool: Path) -> None:
    with _server(lambda _: NEVER) as port:
        found = measure(pool, port, seconds=0.2, rate=100, connections=3)

    assert found["due"] == 20
    assert found["reasons"] == {"unanswered": 3, "unsent": 17}


def test_sends_as_fast_as_answers_come_without_a_rate(pool: Path) -> None:
    with _server(lambda _: GOOD) as port:
        found = measure(pool, port, seconds=0.3, connections=4)

    assert found["answered"] == found["due"] > 4
