"""Where replicas come in: a socket of this machine, or a port for those on others, who must prove themselves."""

import asyncio
import logging
import os
import socket
from collections.abc import Callable
from typing import TypeAlias

from shoal.serve.fronts.listening import BACKLOG, listen_to_replicas, open_listener
from shoal.serve.links.proof import MOST_S, NONCE_BYTES, PROOF_BYTES, watch, welcome_for

_LOG = logging.getLogger(__name__)
# Strangers may hold so many for a few seconds; replicas come again.
_MOST_UNPROVED = 64
# The path of a socket; or address, port and token, as JSON has them.
EntrancePlace: TypeAlias = str | tuple[str, int, str]


class Entrance:
    """Listens, and lets replicas in. Used by the event loop alone."""

    def __init__(self, place: EntrancePlace, let_in: Callable[[socket.socket], None]) -> None:
        """Begin to let in.

        Args:
            place: the path of a socket, where the file system says who may come; or the address, a port that the
                supervisor has reserved, and the token that callers must prove to know.
            let_in: takes the connection of each replica.
        """
        self._let_in = let_in
        self._token: str | None = None
        if isinstance(place, str):
            self._listener = listen_to_replicas(place)
        else:
            address, port, self._token = place
            self._listener = open_listener(address, port, is_shared=True)
            self._listener.listen(BACKLOG)
            self._listener.setblocking(False)
        self._unproved: set[asyncio.Task[None]] = set()
        asyncio.get_running_loop().add_reader(self._listener, self._on_call)

    def close(self) -> None:
        """Let nobody in any more."""
        asyncio.get_running_loop().remove_reader(self._listener)
        self._listener.close()
        for task in self._unproved:
            task.cancel()

    def _on_call(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError:
            # It left before it was welcomed, and will come again.
            return
        if self._token is None:
            self._let_in(connection)
        elif len(self._unproved) >= _MOST_UNPROVED:
            connection.close()
        else:
            connection.setblocking(False)
            task = asyncio.get_running_loop().create_task(self._welcome(connection, self._token))
            self._unproved.add(task)
            task.add_done_callback(self._unproved.discard)

    async def _welcome(self, connection: socket.socket, token: str) -> None:
        try:
            is_proved = await _is_proved(connection, token)
        except BaseException:
            connection.close()
            raise
        if is_proved:
            self._let_in(connection)
        else:
            _LOG.warning("somebody called who is no replica of this server")
            connection.close()


async def _is_proved(connection: socket.socket, token: str) -> bool:
    """As `proof.answer`, for a connection that does not block."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(MOST_S):
            own = os.urandom(NONCE_BYTES)
            await loop.sock_sendall(connection, own)
            reply = b""
            while len(reply) < NONCE_BYTES + PROOF_BYTES:
                piece = await loop.sock_recv(connection, NONCE_BYTES + PROOF_BYTES - len(reply))
                if not piece:
                    return False
                reply += piece
            if (welcome := welcome_for(reply, token, own)) is None:
                return False
            await loop.sock_sendall(connection, welcome)
        watch(connection)
    except (OSError, TimeoutError):
        return False
    return True
