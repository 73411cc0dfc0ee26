"""Where keepers call: the supervisor listens, and tells callers apart by a number and a token.

Nothing that a stranger sends is parsed: a caller says 40 bytes, and is let in only if 32 of them are the token. The
answer proves to the caller that it found its own supervisor and not somebody else's on the same port.
"""

import hashlib
import hmac
import itertools
import secrets
import socket
import threading
from collections import defaultdict
from contextlib import ExitStack, suppress
from queue import Empty, SimpleQueue

from shoal.runtime.base import LOOPBACK
from shoal.runtime.remote.line import Line

TOKEN_BYTES = 32
_NUMBER_BYTES = 8
# How long a caller may take to say who it is.
_HELLO_S = 10.0
# A keeper beats every second, from a process that does nothing else: silence means that its machine is gone.
KEEPER_SILENCE_S = 5.0
# A supervisor that somebody has suspended for a while must find its members again.
_SUPERVISOR_SILENCE_S = 60.0


class Reception:
    """A port that keepers call; each gets through to whoever expects its number. Any thread may call any method."""

    def __init__(self, address: str, port: int = 0, token: bytes | None = None) -> None:
        """Begin to listen.

        Args:
            address: of this machine, that the keepers can reach; "" for all.
            port: 0 for any that is free.
            token: `TOKEN_BYTES` that callers must know; new ones unless given.

        Raises:
            OSError: the port is taken, or the address is not this machine's.
        """
        self.token = token or secrets.token_bytes(TOKEN_BYTES)
        family = socket.getaddrinfo(address or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][0]
        self._listening = socket.create_server((address, port), family=family, backlog=512)
        self.address, self.port = address, int(self._listening.getsockname()[1])
        self._lines: dict[int, SimpleQueue[Line | None]] = defaultdict(SimpleQueue)
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        threading.Thread(target=self._listen, name="shoal-reception", daemon=True).start()

    def new_number(self) -> int:
        """A number that nobody has yet."""
        return next(self._numbers)

    def wait(self, number: int, timeout_s: float | None = None) -> Line | None:
        """The line of the next keeper that calls with this number; None after `give_up` or `timeout_s`."""
        with suppress(Empty):
            return self._queue(number).get(timeout=timeout_s)
        return None

    def give_up(self, number: int) -> None:
        """Let one who waits, now or later, go without."""
        self._queue(number).put(None)

    def close(self) -> None:
        """Take no more calls. Idempotent."""
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()

    def _queue(self, number: int) -> "SimpleQueue[Line | None]":
        with self._lock:
            return self._lines[number]

    def _listen(self) -> None:
        while True:
            try:
                caller, _ = self._listening.accept()
            except ConnectionError:
                continue
            except OSError:
                return
            # Who says nothing keeps nobody else waiting.
            threading.Thread(target=self._greet, args=(caller,), name="shoal-greet", daemon=True).start()

    def _greet(self, caller: socket.socket) -> None:
        try:
            caller.settimeout(_HELLO_S)
            hello = _read(caller, TOKEN_BYTES + _NUMBER_BYTES)
            if not hmac.compare_digest(hello[:TOKEN_BYTES], self.token):
                caller.close()
                return
            caller.sendall(_welcome(self.token))
            caller.settimeout(None)
        except OSError:
            caller.close()
            return
        number = int.from_bytes(hello[TOKEN_BYTES:], "little")
        self._queue(number).put(Line(caller, silence_s=KEEPER_SILENCE_S))


def call(address: str, port: int, token: bytes, number: int) -> Line:
    """A keeper's line to its supervisor.

    Raises:
        OSError: nobody listens there, or it is somebody else.
    """
    with ExitStack() as on_failure:
        connected = on_failure.enter_context(socket.create_connection((address, port), timeout=_HELLO_S))
        connected.sendall(token + number.to_bytes(_NUMBER_BYTES, "little"))
        answer = _read(connected, TOKEN_BYTES)
        connected.settimeout(None)
        if hmac.compare_digest(answer, _welcome(token)):
            on_failure.pop_all()
            # No bound on writing: a supervisor that reads slowly slows its members down, as at home.
            return Line(connected, silence_s=_SUPERVISOR_SILENCE_S, patient=True)
    raise ConnectionError(f"{address}:{port} belongs to somebody else")


def address_towards(host: str) -> str:
    """The address of this machine from which it reaches `host`; the loopback's where it does not."""
    try:
        family, kind, _, _, target = socket.getaddrinfo(host, 9, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind) as probe:
            # Sends nothing: the system only chooses a route.
            probe.connect(target)
            return str(probe.getsockname()[0])
    except OSError:
        return LOOPBACK


def _welcome(token: bytes) -> bytes:
    return hashlib.sha256(b"welcome" + token).digest()


def _read(connected: socket.socket, num_bytes: int) -> bytes:
    found = b""
    while len(found) < num_bytes:
        piece = connected.recv(num_bytes - len(found))
        if not piece:
            raise ConnectionError("the other end hung up before it said who it is")
        found += piece
    return found
