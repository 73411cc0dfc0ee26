import hmac
import socket
import threading

import pytest

from shoal.serve.links import proof
from shoal.serve.links.proof import NONCE_BYTES, PROOF_BYTES, answer, call, new_token

TOKEN = new_token()


@pytest.fixture
def listening():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener, listener.getsockname()[1]


@pytest.fixture
def answering(listening):
    """Answers one call with the token; what came of it."""
    listener, port = listening
    told = []

    def serve():
        connection, _ = listener.accept()
        told.append((answer(connection, TOKEN), connection))

    thread = threading.Thread(target=serve)
    thread.start()
    yield port, thread, told
    thread.join()
    for _, connection in told:
        connection.close()


def test_two_who_know_the_token_find_each_other(answering):
    port, thread, told = answering

    with call("127.0.0.1", port, TOKEN) as connection:
        thread.join()
        ((is_proved, theirs),) = told
        theirs.sendall(b"first")

        assert is_proved
        assert connection.recv(100) == b"first"
        assert connection.gettimeout() is None
        assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)


def test_a_caller_with_another_token_is_not_let_in(answering):
    port, thread, told = answering
    threading.Thread(target=lambda: (thread.join(), told[0][1].close())).start()

    with pytest.raises(OSError, match="hung up"):
        call("127.0.0.1", port, new_token())

    assert not told[0][0]


def test_a_caller_recognises_a_listener_that_is_somebody_else(listening):
    listener, port = listening

    def pose():
        connection, _ = listener.accept()
        with connection:
            connection.sendall(bytes(NONCE_BYTES))
            connection.recv(1000)
            connection.sendall(bytes(PROOF_BYTES))

    thread = threading.Thread(target=pose)
    thread.start()
    with pytest.raises(ConnectionError, match="somebody else"):
        call("127.0.0.1", port, TOKEN)
    thread.join()


def test_the_token_never_travels_and_no_proof_serves_twice(answering):
    port, thread, told = answering
    with socket.create_connection(("127.0.0.1", port)) as connection:
        nonce = connection.recv(NONCE_BYTES)
        own = b"n" * NONCE_BYTES
        reply = own + hmac.digest(TOKEN.encode(), b"caller" + nonce + own, "sha256")
        connection.sendall(reply)
        welcome = connection.recv(100)
    thread.join()

    assert told[0][0]
    assert TOKEN.encode() not in nonce + reply + welcome
    assert bytes.fromhex(TOKEN) not in nonce + reply + welcome
    # What was said for one nonce proves nothing for the next.
    assert proof.welcome_for(reply, TOKEN, bytes(NONCE_BYTES)) is None


@pytest.mark.parametrize("said", [b"", b"x", b"GET / HTTP/1.1\r\n\r\n", bytes(NONCE_BYTES + PROOF_BYTES - 1)])
def test_a_stranger_who_hangs_up_is_no_caller(answering, said):
    port, thread, told = answering
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(said)
    thread.join()

    assert not told[0][0]


def test_a_stranger_who_says_nothing_is_left_after_a_while(answering, monkeypatch):
    monkeypatch.setattr(proof, "MOST_S", 0.05)
    port, thread, told = answering
    with socket.create_connection(("127.0.0.1", port)):
        thread.join()

    assert not told[0][0]
