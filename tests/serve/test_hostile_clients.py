"""Clients that send half, too much, too slowly or leave: a real server answers the others and keeps nothing of them."""

import contextlib
import json
import re
import socket
import struct
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from shoal.serve import start

BODY = b'{"image": [[1, 2], [3, 4]]}'
HEAD = b"POST /predict HTTP/1.1\r\nHost: here\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
GOOD = HEAD % len(BODY) + BODY
CHUNKED = b"POST /predict HTTP/1.1\r\nHost: here\r\nTransfer-Encoding: chunked\r\n\r\n"
# What a client may have the server keep: far more than the kernel's buffers and one read's answers.
MOST_KEPT_BYTES = 64 << 20
# Where a request may be broken off: in its line, in a header, before its body, in it, in a chunk and between chunks.
HALVES = {
    "line": b"POST /predi",
    "header": GOOD[:40],
    "head": HEAD % len(BODY),
    "body": GOOD[:-5],
    "chunk": CHUNKED + b"10\r\nhello",
    "size": CHUNKED + b"5\r\nhello\r\n1",
    "trailer": CHUNKED + b"5\r\nhello\r\n0\r\nX: y\r\n",
    "second": GOOD + GOOD[:-5],
}


@pytest.fixture
def num_files(server):
    """How many files and connections the front has open."""
    return lambda: len(list(Path(f"/proc/{server.pids()['front']}/fd").iterdir()))


def is_answered(server, connect):
    return connect(server.port).ask("POST", "/predict", BODY, Content_Type="application/json")[0] == 200


def reset(client):
    """Close so that what is on its way is lost, as when a machine goes down."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def statuses(answers):
    return re.findall(rb"HTTP/1\.1 (\d{3}) [A-Z]", answers)


def read_to_the_end(client):
    data = b""
    with contextlib.suppress(ConnectionResetError):
        while piece := client.recv(65536):
            data += piece
    return data


@pytest.mark.parametrize("half", HALVES)
@pytest.mark.parametrize("leave", [reset, socket.socket.close])
def test_who_leaves_in_the_middle_leaves_nothing_behind(server, connect, eventually, num_files, half, leave):
    is_answered(server, connect)
    before = num_files()
    for _ in range(30):
        client = socket.create_connection(("127.0.0.1", server.port), timeout=20)
        client.sendall(HALVES[half])
        leave(client)

    assert is_answered(server, connect)
    eventually(lambda: num_files() <= before + 1)
    eventually(
        lambda: server.status()["queue"] == {"requests": 0, "rows": 0, "predicted_wait_ms": 0.0, "held_bytes": 0}
    )


@pytest.mark.parametrize("half", HALVES)
def test_who_says_that_no_more_will_come_gets_no_prediction_for_half_a_request(server, connect, half):
    wire = connect(server.port)
    wire.send(HALVES[half])
    wire.socket.shutdown(socket.SHUT_WR)

    answers = read_to_the_end(wire.socket)

    assert statuses(answers).count(b"200") <= int(half == "second")
    assert is_answered(server, connect)


def test_whole_requests_whose_clients_are_gone_harm_nobody(server, connect, eventually, num_files):
    is_answered(server, connect)
    before = num_files()
    for _ in range(100):
        client = socket.create_connection(("127.0.0.1", server.port), timeout=20)
        client.sendall(GOOD * 3)
        reset(client)

    assert is_answered(server, connect)
    eventually(lambda: num_files() <= before + 1)


def test_a_length_that_is_too_short_cuts_the_body_and_the_rest_is_no_request(server, connect):
    wire = connect(server.port)
    wire.send(HEAD % (len(BODY) - 1) + BODY)

    first, second = wire.receive(), wire.receive()

    assert (first[0], json.loads(first[2])["field"]) == (400, "body")
    assert (second[0], second[1]["connection"]) == (400, "close")
    assert wire.is_closed()


def test_a_length_that_is_too_long_takes_the_next_request_into_the_body(server, connect):
    wire = connect(server.port)
    wire.send(HEAD % (len(BODY) + len(GOOD)) + BODY + GOOD)

    status, _, body = wire.receive()

    # One answer for all of it: the second request was never seen as one.
    assert (status, json.loads(body)["field"]) == (400, "body")
    assert wire.ask("GET", "/v2/health/live")[0] == 200


def test_a_body_behind_a_request_that_has_none_is_no_request(server, connect):
    wire = connect(server.port)
    wire.send(b"GET /v2/health/live HTTP/1.1\r\nHost: here\r\n\r\n" + BODY)

    assert wire.receive()[0] == 200
    assert (wire.receive()[0], wire.is_closed()) == (400, True)


@pytest.mark.parametrize(
    "first",
    [
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        b"Transfer-Encoding: identity, chunked, identity\r\n",
        b"Transfer-Encoding: \x0bchunked\r\n",
        b"Transfer-Encoding\t: chunked\r\n",
        b"Content-Length: 5\r\nContent-Length: 45\r\n",
        b"Content-Length: 5 45\r\n",
        b"Content-Length: 05\r\nContent-length: 5\r\n",
        b"Content-Length: 0x5\r\n",
        b"Content-Length: 5\nTransfer-Encoding: chunked\r\n",
        b"Content-Length : 5\r\n",
        b" Content-Length: 5\r\n",
        b"X: y\r\n\tContent-Length: 5\r\n",
        b"Content-Length: 5\r\n\rX: y\r\n",
        b"Content_Length: 5\r\n\0: y\r\n",
    ],
)
def test_a_request_that_two_readers_could_read_differently_ends_the_connection(server, connect, first):
    smuggled = b"GET /metrics HTTP/1.1\r\nHost: here\r\n\r\n"
    wire = connect(server.port)
    wire.send(b"POST /predict HTTP/1.1\r\nHost: here\r\n" + first + b"\r\n0\r\n\r\n" + smuggled)

    answers = read_to_the_end(wire.socket)

    assert statuses(answers) == [b"400"]
    assert b"shoal_" not in answers


@pytest.mark.slow
def test_slow_clients_are_ended_by_the_clock_and_hold_up_nobody(server, connect, eventually, num_files):
    is_answered(server, connect)
    before, stopping = num_files(), threading.Event()
    silent = [socket.create_connection(("127.0.0.1", server.port), timeout=90) for _ in range(200)]
    for number, client in enumerate(silent):
        client.sendall(list(HALVES.values())[number % 7])
    dripping = [socket.create_connection(("127.0.0.1", server.port), timeout=90) for _ in range(20)]

    def drip():
        for byte in GOOD[:60]:
            for client in dripping:
                with contextlib.suppress(OSError):
                    client.sendall(bytes([byte]))
            if stopping.wait(1):
                return

    with ThreadPoolExecutor(1) as threads:
        asking = threads.submit(drip)
        meanwhile = [is_answered(server, connect) for _ in range(20)]
        ends = [read_to_the_end(client) for client in (*silent, *dripping)]
        stopping.set()
        asking.result()
    for client in (*silent, *dripping):
        client.close()

    assert meanwhile == [True] * 20
    assert {tuple(statuses(end)) for end in ends} == {(b"408",)}
    assert all(b"Connection: close" in end for end in ends)
    eventually(lambda: num_files() <= before + 25)
    assert is_answered(server, connect)


@pytest.mark.slow
def test_a_client_that_asks_for_much_and_reads_nothing_holds_up_nobody(scorer, connect):
    stopping = threading.Event()
    with start(scorer, port=0, replicas=1) as server, ThreadPoolExecutor(1) as threads:
        front = psutil.Process(server.pids()["front"])
        is_answered(server, connect)
        before = front.memory_info().rss
        deaf = socket.create_connection(("127.0.0.1", server.port), timeout=90)

        def ask_for_all():
            with contextlib.suppress(OSError):
                while not stopping.is_set():
                    deaf.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: here\r\n\r\n" * 100)

        asking = threads.submit(ask_for_all)
        try:
            meanwhile = [is_answered(server, connect) for _ in range(50)]
            most = front.memory_info().rss
        finally:
            stopping.set()
            reset(deaf)
            asking.result()

    assert meanwhile == [True] * 50
    assert most - before < MOST_KEPT_BYTES
