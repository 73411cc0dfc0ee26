import asyncio
import resource
import socket

import pytest

from shoal.serve import start
from shoal.serve.desk.crowd import TurnedAway, allow_connections


@pytest.fixture
def limit(monkeypatch):
    """Sets what the system says of open files, and keeps what it was told."""

    def limit(soft, hard, *, is_fixed=False):
        told = []

        def setrlimit(_, limits):
            if is_fixed:
                raise ValueError("not allowed")
            told.append(limits)

        monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, hard))
        monkeypatch.setattr(resource, "setrlimit", setrlimit)
        return told

    return limit


def test_the_limit_on_files_is_raised_as_far_as_it_may_be(limit):
    told = limit(1024, 20_000)

    assert allow_connections(None) == 20_000 - 128
    assert told == [(20_000, 20_000)]


@pytest.mark.parametrize(
    ("soft", "hard", "wanted", "allowed"), [(1024, 1024, None, 896), (1024, 1024, 10, 10), (1024, 1024, 5000, 896)]
)
def test_some_files_are_kept_free(limit, soft, hard, wanted, allowed):
    limit(soft, hard)

    assert allow_connections(wanted) == allowed


def test_a_limit_that_cannot_be_raised_is_kept_to(limit):
    limit(1024, 20_000, is_fixed=True)

    assert allow_connections(None) == 896


def test_no_limit_at_all_is_a_large_one(limit):
    limit(resource.RLIM_INFINITY, resource.RLIM_INFINITY)

    assert allow_connections(None) == 1 << 20


def test_who_is_turned_away_hears_why_although_it_was_sending():
    async def run():
        server = await asyncio.get_running_loop().create_server(lambda: TurnedAway(5), "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"GET /v2 HTTP/1.1\r\n\r\n" * 100)
        answer = await reader.read()
        writer.close()
        server.close()
        return answer

    answer = asyncio.run(run())

    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"Connection: close" in answer
    assert b"has its 5 connections" in answer


@pytest.mark.slow
def test_thousands_of_idle_connections_hold_and_harm_nobody(scorer, connect, image_request):
    # As many as this process may have itself, and at most what the promise says.
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    num = min(10_000, (hard if hard != resource.RLIM_INFINITY else 20_000) - 1000)
    idle = []
    try:
        with start(scorer, port=0, replicas=1) as server:
            for _ in range(num):
                idle.append(socket.create_connection(("127.0.0.1", server.port), timeout=20))
            statuses = [connect(server.port).infer("scorer", image_request)[0] for _ in range(20)]
            for client in idle[:: num // 20]:
                client.sendall(b"GET /v2/health/live HTTP/1.1\r\nHost: h\r\n\r\n")
            heads = [client.recv(100)[:15] for client in idle[:: num // 20]]
    finally:
        for client in idle:
            client.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    assert statuses == [200] * 20
    assert set(heads) == {b"HTTP/1.1 200 OK"}
