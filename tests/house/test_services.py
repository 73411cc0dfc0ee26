"""A test that needs a service is skipped where there is none, and fails where there must be one."""

import socket

import pytest


@pytest.fixture
def closed_port():
    """A port of this machine that nothing listens on."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        # Bound, but not listened on: nobody else gets it meanwhile.
        yield taken.getsockname()[1]


@pytest.mark.parametrize("setting", [None, "0"])
def test_without_the_service_the_test_is_skipped(require_service, closed_port, monkeypatch, setting):
    monkeypatch.delenv("SHOAL_REQUIRE_SERVICES", raising=False)
    if setting is not None:
        monkeypatch.setenv("SHOAL_REQUIRE_SERVICES", setting)

    with pytest.raises(pytest.skip.Exception, match=f"Teapot does not listen on 127.0.0.1:{closed_port}"):
        require_service("Teapot", closed_port)


def test_where_services_are_required_the_test_fails(require_service, closed_port, monkeypatch):
    monkeypatch.setenv("SHOAL_REQUIRE_SERVICES", "1")

    with pytest.raises(pytest.fail.Exception, match="Teapot does not listen"):
        require_service("Teapot", closed_port)


def test_a_service_that_listens_is_told(require_service):
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]

        assert require_service("Teapot", port) == f"127.0.0.1:{port}"
