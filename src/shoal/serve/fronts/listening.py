"""The port of a server: one listener alone, or several that share it; the kernel divides new connections among them."""

import socket
from pathlib import Path
from typing import NamedTuple

from shoal.serve.links.messages import CannotListen

# Clients that all connect at once should wait a moment, not be turned away.
BACKLOG = 1024


class Listeners(NamedTuple):
    """The sockets for clients; `grpc` is None where gRPC is not served."""

    http: socket.socket
    grpc: socket.socket | None


def open_listener(host: str, port: int, *, is_shared: bool) -> socket.socket:
    """Return a socket that has the address and does not listen yet.

    Args:
        host: the address.
        port: 0 takes a free one.
        is_shared: whether other sockets of this user may have the same address, all of them by this function.

    Raises:
        OSError: the address is taken, or is none of this machine.
    """
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        # A restarted front needs the port while connections of the dead one are still winding down.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if is_shared:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind(address)
    except OSError:
        listener.close()
        raise
    return listener


def reserve(host: str, port: int) -> socket.socket:
    """Return a socket that keeps the port for fronts that will share it; it does not listen: no connection comes to it.

    Raises:
        OSError: the address is taken, even if its owner would share it.
    """
    # Another server whose fronts share this port would let ours in, and half of its clients would come to us.
    with open_listener(host, port, is_shared=False) as alone:
        found = alone.getsockname()[1]
    return open_listener(host, found, is_shared=True)


def listen_to_replicas(socket_path: str) -> socket.socket:
    """Return a socket of this user alone that listens at a path, and never blocks."""
    Path(socket_path).unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(socket_path)
    Path(socket_path).chmod(0o600)
    listener.listen(BACKLOG)
    listener.setblocking(False)
    return listener


def cannot_listen(host: str, port: int, error: OSError) -> CannotListen:
    """What to tell of an address that cannot be had."""
    return CannotListen(
        f"cannot listen on {host}:{port}: {error.strerror or error}",
        "stop what listens there, or choose another port; port=0 takes a free one",
    )
