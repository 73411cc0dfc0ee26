"""The gRPC door of a front: it listens, and hands each connection to the service."""

import asyncio
import socket

from shoal.serve.batching.admission import AdmissionLimits
from shoal.serve.batching.dispatch import Dispatcher
from shoal.serve.desk.desk import Desk
from shoal.serve.grpc.connection import GrpcConnection, TurnedAway
from shoal.serve.grpc.service import GrpcService
from shoal.serve.records.metrics import Metrics
from shoal.serve.tracing.observer import Observer
from shoal.serve.versions.models import Models
from shoal.serve.wire.auth import KeyCheck

# As many as may wait to be taken over HTTP.
_BACKLOG = 1024


class GrpcServer:
    """Serves gRPC without encryption on one port. Used by the event loop alone.

    Its connections are the desk's, like those over HTTP: they are checked, counted and drained there. `port` is the one
    that it listens on, from `start` on.
    """

    def __init__(self, service: GrpcService, *, most_connections: int) -> None:
        """Prepare; the connections that may be open at once are those over HTTP and these together."""
        self.port = 0
        self._service = service
        self._most_connections = most_connections
        self._server: asyncio.Server | None = None

    async def start(self, listener: socket.socket) -> int:
        """Listen, and return the port; the socket is bound, and closed with this server."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._connection, sock=listener, backlog=_BACKLOG)
        self.port = listener.getsockname()[1]
        return self.port

    def close(self) -> None:
        """Take no new connections; those that are open go on."""
        if self._server is not None:
            self._server.close()

    def _connection(self) -> asyncio.Protocol:
        if self._service.num_connections >= self._most_connections:
            return TurnedAway(self._most_connections)
        return GrpcConnection(self._service)


async def start_grpc(
    listener: socket.socket,
    desk: Desk,
    models: Models,
    dispatcher: Dispatcher,
    metrics: Metrics,
    *,
    key: KeyCheck,
    limits: AdmissionLimits,
    most_body_bytes: int,
    most_connections: int,
    observer: Observer | None = None,
) -> GrpcServer:
    """Return a server that listens, over the parts that also answer HTTP."""
    service = GrpcService(
        desk, models, dispatcher, metrics, key=key, limits=limits, most_body_bytes=most_body_bytes, observer=observer
    )
    server = GrpcServer(service, most_connections=most_connections)
    await server.start(listener)
    return server
