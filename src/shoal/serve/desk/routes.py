"""Which answer a path and a method ask for."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal
from urllib.parse import unquote

from shoal.serve.wire.refusal import RefusedError

Kind = Literal[
    "server", "live", "ready", "metrics", "status", "docs", "openapi",
    "model", "model_ready", "infer", "predict", "config", "statistics",
    "index", "load", "unload",
]  # fmt: skip
_FIXED: dict[str, tuple[str, Kind]] = {
    "/v2": ("GET", "server"),
    "/v2/health/live": ("GET", "live"),
    "/v2/health/ready": ("GET", "ready"),
    "/v2/models/stats": ("GET", "statistics"),
    "/v2/repository/index": ("POST", "index"),
    "/predict": ("POST", "predict"),
    "/docs": ("GET", "docs"),
    "/openapi.json": ("GET", "openapi"),
    "/metrics": ("GET", "metrics"),
    "/status": ("GET", "status"),
}
_OF_MODEL: dict[str, tuple[str, Kind]] = {
    "": ("GET", "model"),
    "ready": ("GET", "model_ready"),
    "infer": ("POST", "infer"),
    "predict": ("POST", "predict"),
    "config": ("GET", "config"),
    "stats": ("GET", "statistics"),
}
_OF_REPOSITORY: dict[str, tuple[str, Kind]] = {
    "load": ("POST", "load"),
    "unload": ("POST", "unload"),
}

# What stands before every path where the server is mounted in another. Over HTTP no client can send it.
PREFIX_HEADER = b"x-forwarded-prefix"


@dataclass(frozen=True, slots=True)
class Route:
    """What is asked for.

    Attributes:
        kind: which answer.
        model: as the path names it; "" where it names none: the server's first model, or all of them.
        version: as the path names it; None for the server's choice.
    """

    kind: Kind
    model: str = ""
    version: str | None = None

    @property
    def is_open(self) -> bool:
        """Whether it is answered without a key: health, for load balancers."""
        return self.kind in ("live", "ready")


@functools.lru_cache(maxsize=256)
def find_route(method: str, path: str) -> Route:
    """Return what a request asks for.

    Raises:
        RefusedError: 404 for an unknown path, 405 for another method than the path takes.
    """
    known = _fixed_route(path) or _model_route(path) or _repository_route(path)
    if known is None:
        raise RefusedError(
            404,
            f"there is nothing at {path}",
            field="path",
            found=path,
            expected="a path of the Open Inference Protocol, such as /v2/models/NAME/infer, or /predict or /status",
            next_step="ask GET /docs or GET /openapi.json what is here",
        )
    allowed, route = known
    if method != allowed:
        raise RefusedError(
            405,
            f"{path} takes {allowed}, found {method}",
            field="method",
            found=method,
            expected=allowed,
            next_step=f"send {allowed} {path}",
            allow=allowed,
        )
    return route


def _fixed_route(path: str) -> tuple[str, Route] | None:
    found = _FIXED.get(path.rstrip("/"))
    return None if found is None else (found[0], Route(found[1]))


def _model_route(path: str) -> tuple[str, Route] | None:
    parts = path.strip("/").split("/")
    if parts[:2] != ["v2", "models"] or not parts[2:]:
        return None
    model, *rest = (unquote(part) for part in parts[2:])
    version = None
    if rest[:1] == ["versions"]:
        if len(rest) == 1:
            return None
        version, rest = rest[1], rest[2:]
    found = _OF_MODEL.get("/".join(rest))
    return None if found is None else (found[0], Route(found[1], model, version))


def _repository_route(path: str) -> tuple[str, Route] | None:
    parts = path.strip("/").split("/")
    if parts[:3] != ["v2", "repository", "models"] or len(parts) != 5:  # the name and what to do
        return None
    found = _OF_REPOSITORY.get(parts[4])
    return None if found is None else (found[0], Route(found[1], unquote(parts[3])))


def prefix_of(headers: Mapping[bytes, bytes]) -> str:
    """What stands before every path of this server, as a client sees it; "" for nothing."""
    return headers.get(PREFIX_HEADER, b"").decode("latin-1")
