"""Servers, stores and patience for the tests of remote data: real requests over loopback, and time that is made."""

import itertools
import os
from pathlib import Path

import pytest

from shoal.base import ManualClock
from shoal.data.remote.location import parse_location
from shoal.data.remote.objects import ObjectStore
from shoal.data.remote.retrying import RemoteSettings, Retrier
from shoal.testing.object_server import serve_folder


@pytest.fixture
def server(tmp_path):
    with serve_folder(tmp_path / "served") as running:
        yield running


@pytest.fixture
def retrier(request):
    """Patience in made time: pauses cost nothing. A stall is noticed in real time: soon where the test orders one."""
    clock = ManualClock()
    # Elsewhere a busy machine must not look like a stalling server.
    parameters = request.node.callspec.params if hasattr(request.node, "callspec") else {}
    stall_s = 0.2 if "stall" in parameters.values() else 60.0
    settings = RemoteSettings(stall_s=stall_s, deadline_s=30.0, range_bytes=64 << 10, num_requests=4)
    return Retrier(settings, clock=clock, sleep=clock.advance, chance=lambda: 0.5)


@pytest.fixture
def put(server):
    """Put bytes into the bucket under a key, and return them."""

    def put(key: str, data: bytes | int) -> bytes:
        content = os.urandom(data) if isinstance(data, int) else data
        path = server.folder / "bucket" / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return content

    return put


@pytest.fixture(params=["http", "s3"])
def url(request, server):
    """The bucket's address, over either protocol; a key is put behind "bucket"."""

    def url(key: str = "") -> str:
        path = f"bucket/{key}".rstrip("/")
        return server.s3_url(path) if request.param == "s3" else server.url(path)

    return url


@pytest.fixture
def store(url, retrier):
    return ObjectStore(parse_location(url()), retrier)


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A folder with a `.shoal` in it to work in, so that caches are the test's own."""
    counter = itertools.count()

    def enter() -> Path:
        folder = tmp_path / f"home-{next(counter)}"
        (folder / ".shoal").mkdir(parents=True)
        monkeypatch.chdir(folder)
        return folder / ".shoal"

    enter()
    return enter
