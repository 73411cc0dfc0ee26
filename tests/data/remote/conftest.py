"""Servers, stores and patience for the tests of remote data: real requests over loopback, and time that is made."""

import os

import pytest

from shoal.data.remote.location import parse_location
from shoal.data.remote.objects import ObjectStore


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
