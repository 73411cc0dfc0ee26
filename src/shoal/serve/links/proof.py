"""How two processes of one server recognise each other over a network, before either reads anything else.

    listener -> caller   a nonce, 32 bytes
    caller -> listener   a nonce of its own, and HMAC-SHA256(token, "caller" + both nonces)
    listener -> caller   HMAC-SHA256(token, "listener" + both nonces)

The token itself never travels here: the runtime brought it to both. What follows is neither encrypted nor signed.
"""

import hmac
import os
import socket
import time

NONCE_BYTES = 32
PROOF_BYTES = 32
# How long the other end may take to prove itself, all in all.
MOST_S = 5.0
# A machine that loses its power or its network says nothing: the system asks, and tells after some seconds.
# Asks the system, not the process, which may be at a long batch.
_IDLE_S, _EVERY_S, _TIMES = 2, 1, 3


def new_token() -> str:
    """A token for one server, as text."""
    return os.urandom(32).hex()


def call(address: str, port: int, token: str) -> socket.socket:
    """A connection to a listener that has proved itself; it blocks.

    Raises:
        OSError: nobody listens there, or somebody else.
    """
    deadline_s = time.monotonic() + MOST_S
    connection = socket.create_connection((address, port), timeout=MOST_S)
    try:
        theirs, own = _read(connection, NONCE_BYTES, deadline_s), os.urandom(NONCE_BYTES)
        connection.sendall(own + _proof(token, b"caller", theirs, own))
        welcome = _read(connection, PROOF_BYTES, deadline_s)
        is_ours = hmac.compare_digest(welcome, _proof(token, b"listener", own, theirs))
        connection.settimeout(None)
        watch(connection)
    except BaseException:
        connection.close()
        raise
    if not is_ours:
        connection.close()
        raise ConnectionError(f"{address}:{port} belongs to somebody else")
    return connection


def answer(connection: socket.socket, token: str) -> bool:
    """Whether who has called knows the token; then it was proved to them too, and the connection blocks."""
    deadline_s = time.monotonic() + MOST_S
    try:
        connection.settimeout(MOST_S)
        own = os.urandom(NONCE_BYTES)
        connection.sendall(own)
        reply = _read(connection, NONCE_BYTES + PROOF_BYTES, deadline_s)
        if (welcome := welcome_for(reply, token, own)) is None:
            return False
        connection.sendall(welcome)
        connection.settimeout(None)
        watch(connection)
    except OSError:
        return False
    return True


def watch(connection: socket.socket) -> None:
    """Have frames leave at once, and the connection end when the other machine answers nothing for some seconds."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    # Not every system has them all, or calls them so.
    for name, value in (
        ("TCP_KEEPIDLE", _IDLE_S),
        ("TCP_KEEPALIVE", _IDLE_S),
        ("TCP_KEEPINTVL", _EVERY_S),
        ("TCP_KEEPCNT", _TIMES),
    ):
        if (option := getattr(socket, name, None)) is not None:
            connection.setsockopt(socket.IPPROTO_TCP, option, value)


def welcome_for(reply: bytes, token: str, own: bytes) -> bytes | None:
    """What proves the token to a caller who has replied so to our nonce; None where that proves nothing."""
    theirs, proof = reply[:NONCE_BYTES], reply[NONCE_BYTES:]
    if not hmac.compare_digest(proof, _proof(token, b"caller", own, theirs)):
        return None
    return _proof(token, b"listener", theirs, own)


def _proof(token: str, role: bytes, first: bytes, second: bytes) -> bytes:
    return hmac.digest(token.encode(), role + first + second, "sha256")


def _read(connection: socket.socket, num_bytes: int, deadline_s: float) -> bytes:
    found = b""
    while len(found) < num_bytes:
        # So that one byte now and then does not keep us for ever.
        connection.settimeout(max(0.01, deadline_s - time.monotonic()))
        piece = connection.recv(num_bytes - len(found))
        if not piece:
            raise ConnectionError("the other end hung up before it said who it is")
        found += piece
    return found
