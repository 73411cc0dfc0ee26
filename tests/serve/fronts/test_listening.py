import socket

import pytest

from shoal.serve.fronts.listening import open_listener, reserve


def test_fronts_share_a_reserved_port_and_get_all_connections():
    with reserve("127.0.0.1", 0) as kept:
        port = kept.getsockname()[1]
        with (
            open_listener("127.0.0.1", port, is_shared=True) as one,
            open_listener("127.0.0.1", port, is_shared=True) as other,
        ):
            for listener in (one, other):
                listener.listen(128)
                listener.setblocking(False)
            clients = [socket.create_connection(("127.0.0.1", port), timeout=5) for _ in range(64)]
            accepted = [accept_all(listener) for listener in (one, other)]

    assert sum(accepted) == 64
    assert min(accepted) > 0
    for client in clients:
        client.close()


def accept_all(listener):
    count = 0
    while True:
        try:
            connection, _ = listener.accept()
        except BlockingIOError:
            return count
        connection.close()
        count += 1


def test_a_port_whose_owner_would_share_it_is_taken_all_the_same():
    with reserve("127.0.0.1", 0) as kept:
        kept.listen()
        with pytest.raises(OSError, match="in use"):
            reserve("127.0.0.1", kept.getsockname()[1])


@pytest.mark.parametrize("is_shared", [False, True])
def test_a_port_that_one_listener_has_alone_is_taken(is_shared):
    with open_listener("127.0.0.1", 0, is_shared=False) as alone:
        alone.listen()
        with pytest.raises(OSError, match="in use"):
            open_listener("127.0.0.1", alone.getsockname()[1], is_shared=is_shared)
