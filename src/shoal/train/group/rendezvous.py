"""How members on several hosts find each other and connect: through a store in the supervisor, by real addresses.

This is made for a network whose hosts trust each other. The store asks nobody who they are, and listens on all of the
supervisor's addresses: whoever reaches its port while a run lasts can read the members' addresses and secrets in it,
and with these take a member's place, read and change the gradients and weights that members exchange, or end the run.
Code of theirs is not run: what is exchanged is numbers and JSON. Nothing is encrypted either, so who can listen on the
line reads the same. The secrets keep out those who come upon a member's port alone, such as a scan for open ports.
"""

import select
import socket
import time
from collections.abc import Callable, Sequence
from datetime import timedelta

from torch.distributed import PrefixStore, TCPStore  # type: ignore[attr-defined]  # public, but not marked so

from shoal.base import new_token
from shoal.train.base import PeerLostError

POLL_S = 0.0025
# For one answer of the supervisor's store.
_STORE_LIMIT = timedelta(seconds=20)
# For the first bytes of a connection, which are sent as soon as it stands.
_GREETING_S = 2.0
_SECRET_BYTES = 26
_RANK_BYTES = 4
# A lost connection counts as cut after 7 to 13 s: the pause before a retransmission doubles from 0.2 s on.
_NUM_UNANSWERED = 5
# And a member as out of reach when this many calls more than one got no answer, after 7 s.
_NUM_CALLS = 2
# Set aside for documentation (RFC 5737): nobody is asked anything, only the route is looked up.
_FAR_AWAY = "192.0.2.1"
_LOOPBACK = "127.0.0.1"

Heed = Callable[[], None]


class Rendezvous:
    """The store in which members leave their addresses; it lives in the supervisor, so no worker's death takes it."""

    def __init__(self) -> None:
        # It listens on every address of this host; the one given here is only the way that it takes to itself.
        self._store = TCPStore(_LOOPBACK, 0, is_master=True, wait_for_workers=False)

    def address(self, hosts: Sequence[str] = ()) -> str:
        """Its "host:port" for members on these hosts: this host's address on the way to the first that a way leads to.

        Without hosts it is the address on the way to everywhere, and loopback where there is none.
        """
        ways = (own_address(host) for host in hosts if not _is_here(host))
        host = next((way for way in ways if way != _LOOPBACK), None)
        if host is None:
            host = _LOOPBACK if hosts and all(map(_is_here, hosts)) else own_address(_FAR_AWAY)
        return f"{host}:{self._store.port}"


def _is_here(host: str) -> bool:
    return host in ("", "localhost", "::1") or host.startswith("127.")


def own_address(peer: str) -> str:
    """The address of this host by which a peer reaches it; loopback where nothing leads there."""
    try:
        family, *_, target = socket.getaddrinfo(peer, 9, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            # Connecting a datagram socket sends nothing: it picks a route.
            probe.connect(target)
            return str(probe.getsockname()[0])
    except OSError:
        return _LOOPBACK


def connect_all(name: str, rank: int, size: int, heed: Heed) -> dict[int, socket.socket]:
    """One connection to each other member of the meeting "host:port/prefix".

    `heed` is called at least every few milliseconds and raises to end the waiting. A connection counts only if it
    begins with the secret that the one called left in the store, so that a stranger cannot take a member's place.

    Raises:
        PeerLostError: the store or a member cannot be reached.
    """
    found: dict[int, socket.socket] = {}
    try:
        address, _, prefix = name.partition("/")
        host, _, port = address.rpartition(":")
        store = PrefixStore(prefix, TCPStore(host, int(port), is_master=False, timeout=_STORE_LIMIT))
        own = own_address(host)
        with socket.create_server((own, 0), family=socket.getaddrinfo(own, 0)[0][0], backlog=size) as server:
            secret = new_token(_SECRET_BYTES)
            store.set(str(rank), f"{own} {server.getsockname()[1]} {secret}")
            for other in range(rank):
                found[other] = _call(store, rank, other, heed)
            server.settimeout(POLL_S)
            while len(found) < size - 1:
                _answer(server, secret, found, heed)
    except (RuntimeError, OSError) as error:
        for connection in found.values():
            connection.close()
        raise error if isinstance(error, PeerLostError) else PeerLostError(str(error)) from None
    for connection in found.values():
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        keep_asking(connection)
    return found


def keep_asking(connection: socket.socket) -> None:
    """Let the system ask the other host every few seconds whether it is there, also while nothing is to be sent."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", 2), ("TCP_KEEPINTVL", 2), ("TCP_KEEPCNT", _NUM_UNANSWERED)):
        _set(connection, name, value)


def is_unanswered(connection: socket.socket) -> bool:
    """Whether the other host has left what was sent, or asked, unanswered several times in a row.

    A host answers for a process that is stopped or slow, so this tells of the network alone. A limit on the time until
    data is taken (TCP_USER_TIMEOUT) would not: it also ends connections to a member that computes for long.
    """
    if not hasattr(socket, "TCP_INFO"):
        return False
    facts = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 4)
    # The third and the fourth byte of Linux's struct tcp_info: retransmissions, and probes, since the last answer.
    return max(facts[2], facts[3]) >= _NUM_UNANSWERED


def _set(connection: socket.socket, name: str, value: int) -> None:
    """Set an option of TCP that not every system has."""
    if hasattr(socket, name):
        connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def _call(store: PrefixStore, rank: int, other: int, heed: Heed) -> socket.socket:
    while not store.check([str(other)]):
        heed()
        time.sleep(POLL_S)
    host, port, secret = store.get(str(other)).decode().split()
    family, *_, target = socket.getaddrinfo(host, int(port), type=socket.SOCK_STREAM)[0]
    connection = socket.socket(family, socket.SOCK_STREAM)
    try:
        connection.setblocking(False)
        _set(connection, "TCP_SYNCNT", _NUM_CALLS)
        connection.connect_ex(target)
        while not select.select([], [connection], [], POLL_S)[1]:
            heed()
        if error := connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            raise PeerLostError(f"cannot reach member {other} at {host}:{port}: error {error}")  # noqa: TRY301  # closed below
        # The first bytes of a connection always fit into its buffer.
        connection.send(secret.encode() + rank.to_bytes(_RANK_BYTES, "little"))
    except BaseException:
        connection.close()
        raise
    return connection


def _answer(server: socket.socket, secret: str, found: dict[int, socket.socket], heed: Heed) -> None:
    """Take one connection, if there is one and a member is behind it."""
    try:
        connection, _ = server.accept()
    except TimeoutError:
        heed()
        return
    connection.settimeout(POLL_S)
    greeting = b""
    # Whoever says nothing, such as one who looks for open ports, must not keep the members waiting behind it.
    deadline = time.monotonic() + _GREETING_S
    while time.monotonic() < deadline and len(greeting) < _SECRET_BYTES + _RANK_BYTES:
        try:
            received = connection.recv(_SECRET_BYTES + _RANK_BYTES - len(greeting))
        except TimeoutError:
            heed()
            continue
        except ConnectionError:
            received = b""
        if not received:
            break
        greeting += received
    if len(greeting) == _SECRET_BYTES + _RANK_BYTES and greeting[:_SECRET_BYTES] == secret.encode():
        found[int.from_bytes(greeting[_SECRET_BYTES:], "little")] = connection
    else:
        connection.close()
