"""Serve a model over HTTP: one front, some replicas, no request lost. Neither torch nor a store is needed."""

from typing import TYPE_CHECKING

from shoal.base import ServeError, UnavailableError, lazy_face

if TYPE_CHECKING:
    from shoal.serve.client import Client as Client
    from shoal.serve.client import InferResult as InferResult
    from shoal.serve.host.server import Server as Server
    from shoal.serve.host.server import run as run
    from shoal.serve.host.server import start as start
    from shoal.serve.mount.application import Application as Application
    from shoal.serve.mount.application import asgi as asgi
    from shoal.serve.replicas.chain import Chain as Chain

__all__ = [
    "Application",
    "Chain",
    "Client",
    "InferResult",
    "ServeError",
    "Server",
    "UnavailableError",
    "asgi",
    "run",
    "start",
]

__getattr__ = lazy_face(
    __name__,
    {
        "Application": "mount.application",
        "Chain": "replicas.chain",
        "Client": "client",
        "InferResult": "client",
        "Server": "host.server",
        "asgi": "mount.application",
        "run": "host.server",
        "start": "host.server",
    },
)
