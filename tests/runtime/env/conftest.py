"""A job of four ranks: this process is rank 0, the others serve it from processes of their own."""

import socket

import pytest

from shoal.runtime.env.place import Place
from shoal.runtime.env.runtime import EnvRuntime


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return min(probe.getsockname()[1], 65_000)


@pytest.fixture
def place():
    return Place(rank=0, size=4, address="127.0.0.1", port=free_port(), job="test")


@pytest.fixture
def ranks(start_python, place):
    """Ranks 1 to 3, each printing what its call returned or raised."""
    return [
        start_python(
            f"""
            from dataclasses import replace
            from shoal.runtime.env.place import Place
            from shoal.runtime.env.runtime import EnvRuntime
            try:
                print(EnvRuntime(replace({place!r}, rank={rank})).lead_or_serve(None))
            except BaseException as error:
                print(type(error).__name__, error)
            """
        )
        for rank in (1, 2, 3)
    ]


@pytest.fixture
def runtime(place, ranks):
    runtime = EnvRuntime(place)
    yield runtime
    runtime.close()
