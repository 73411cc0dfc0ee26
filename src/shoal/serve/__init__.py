"""Serve a model over HTTP: one front, some replicas, no request lost. Neither torch nor a store is needed."""

from typing import TYPE_CHECKING

from shoal.base import ServeError, UnavailableError, lazy_face

if TYPE_CHECKING:
    from shoal.serve.chain import Chain as Chain
    from shoal.serve.client import Client as Client
    from shoal.serve.client import InferResult as InferResult
    from shoal.serve.server import Server as Server
    from shoal.serve.server import run as run
    from shoal.serve.server import start as start

__all__ = ["Chain", "Client", "InferResult", "ServeError", "Server", "UnavailableError", "run", "start"]

__getattr__ = lazy_face(
    __name__,
    {
        "Chain": "chain",
        "Client": "client",
        "InferResult": "client",
        "Server": "server",
        "run": "server",
        "start": "server",
    },
)
