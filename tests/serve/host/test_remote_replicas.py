import socket

import pytest

from shoal.base import ServeError
from shoal.runtime import LocalRuntime
from shoal.serve.fronts.listening import open_listener
from shoal.serve.host import remote_replicas
from shoal.serve.host.remote_replicas import RemoteReplicas
from shoal.serve.links.files import REPLIES, Absent, Ask, hear, tell
from shoal.serve.links.proof import call
from shoal.serve.replicas.remote_replica import run_remote_replica


@pytest.fixture
def remote():
    remote = RemoteReplicas("local", num_fronts=2, is_planned=lambda _: False)
    yield remote
    remote.close()


def test_each_front_has_a_port_of_its_own_that_stays_its_own(remote):
    (address, first, token), (_, second, same) = remote.entrances

    assert first != second
    assert token == same
    shared = open_listener(address, first, is_shared=True)
    with shared, socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind((address, second))


def test_a_replica_is_told_all_that_it_needs(remote):
    code = remote.code(threads=3)

    assert code.target is run_remote_replica
    assert code.config["ports"] == [port for _, port, _ in remote.entrances]
    assert code.config["threads"] == 3
    with call(code.config["address"], code.config["files_port"], code.config["token"]) as connection:
        tell(connection, Ask("/m.onnx"))
        assert isinstance(hear(connection, REPLIES), Absent)


def test_tokens_are_not_the_same_twice(remote):
    other = RemoteReplicas("local", num_fronts=1, is_planned=lambda _: False)
    other.close()

    assert other.entrances[0][2] != remote.entrances[0][2]


def test_an_address_that_is_none_of_this_machine_is_told(monkeypatch):
    class Far(LocalRuntime):
        address = "192.0.2.1"

    monkeypatch.setattr(remote_replicas, "open_runtime", lambda _: Far())

    with pytest.raises(ServeError, match=r"192\.0\.2\.1"):
        RemoteReplicas("ray", num_fronts=1, is_planned=lambda _: False)
