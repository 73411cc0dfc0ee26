"""The front desk: every request comes here, is let in or refused, and is answered or handed on."""

from collections.abc import Callable

from shoal.base import new_token
from shoal.serve import describe
from shoal.serve.admission import AdmissionLimits, draining
from shoal.serve.auth import KeyCheck
from shoal.serve.connection import Connection, Exchange
from shoal.serve.dispatch import Dispatcher
from shoal.serve.http import Head, response
from shoal.serve.inference import Inference
from shoal.serve.journal import Journal
from shoal.serve.messages import Problem
from shoal.serve.metrics import Metrics, render
from shoal.serve.models import Models
from shoal.serve.protocol import parse_json_bytes
from shoal.serve.refusal import RefusedError, shorten
from shoal.serve.routes import Route, find_route

_METRICS_TYPE = b"text/plain; version=0.0.4; charset=utf-8"
_HEALTH = "/v2/health/"
# One read brings a body of this size whole, or nearly: such requests need not be counted while they arrive.
_SMALL_BODY_BYTES = 64 << 10


class Desk:
    """Answers requests for all connections. Used by the event loop alone."""

    def __init__(
        self,
        models: Models,
        dispatcher: Dispatcher,
        journal: Journal,
        metrics: Metrics,
        *,
        key: KeyCheck,
        limits: AdmissionLimits,
    ) -> None:
        self.connections: set[Connection] = set()
        self.is_draining = False
        self.problems: dict[str, Problem] = {}
        self._models = models
        self._dispatcher = dispatcher
        self._journal = journal
        self._metrics = metrics
        self._key = key
        self._limits = limits
        # With a number behind it the id of a request that brings none: unique over restarts, without a system call.
        self._token = new_token(10)
        self._num_requests = 0
        self._answers: dict[str, Callable[[Route], tuple[int, bytes]]] = {
            "server": lambda _: (200, describe.json_response(200, describe.server_metadata())),
            "live": lambda _: (200, describe.json_response(200, {"live": True})),
            "ready": self._ready,
            "model": self._model,
            "model_ready": self._model_ready,
            "index": lambda _: (200, describe.json_response(200, describe.index(models, dispatcher))),
            "metrics": self._scrape,
            "status": self._status,
        }

    @property
    def is_ready(self) -> bool:
        """Whether every planned model can be served now."""
        return not self.is_draining and all(
            describe.is_ready(self._models, self._dispatcher, model) for model in self._models.plan
        )

    def admit(self, head: Head) -> None:
        """Raise RefusedError for a request that needs no body to be refused."""
        # The key comes first: without it nobody learns which paths and models exist.
        if not head.path.startswith(_HEALTH):
            self._key.check(head.headers)
        route = find_route(head.method, head.path)
        if encoding := head.headers.get(b"content-encoding", b"identity").decode("latin-1"):
            _check_encoding(encoding)
        if route.kind != "infer":
            return
        if self.is_draining:
            raise draining()
        # Both before the body is read: what will be refused anyway should cost nothing.
        self._models.find(route.model, route.version)
        self._dispatcher.admit(self._limits, self._arriving_bytes(head))

    def take(self, exchange: Exchange, body: bytes) -> None:
        """Answer a whole request, now or when a replica has run it."""
        head = exchange.head
        route = find_route(head.method, head.path)
        if route.kind == "infer":
            self._infer(exchange, route, body)
        else:
            exchange.answer(*self._answers[route.kind](route))

    def count(self, status: int) -> None:
        """Count an answer that was sent."""
        self._metrics.answers[status] += 1

    def opened(self, connection: Connection) -> None:
        """Know a new connection."""
        self.connections.add(connection)

    def closed(self, connection: Connection) -> None:
        """Forget a connection."""
        self.connections.discard(connection)

    def _infer(self, exchange: Exchange, route: Route, body: bytes) -> None:
        served = self._models.find(route.model, route.version)
        json_bytes = parse_json_bytes(exchange.head.headers.get(b"inference-header-content-length"))
        call = served.protocol.decode(body, json_bytes)
        self._num_requests += 1
        request_id = call.id or f"{self._token}{self._num_requests:x}"
        if route.version is None:
            chosen = self._models.choose(served, request_id)
            # The id that chooses the version stands in the body, so the body was read as the main version has it.
            if chosen.protocol is not served.protocol:
                call = chosen.protocol.decode(body, json_bytes)
            served = chosen
        # Most models have one form; comparing None is cheaper than comparing shapes.
        form = None if served.has_one_form else tuple(array.shape[1:] for array in call.arrays)
        self._dispatcher.submit(
            served.key,
            Inference(exchange, call, request_id, len(body), form, runs_alone=not served.interface.batched),
        )

    def _arriving_bytes(self, head: Head) -> int:
        """Bytes of bodies that are still to come or not complete; 0 for a small one, to keep small requests quick."""
        length = head.headers.get(b"content-length")
        if length is not None and int(length) <= _SMALL_BODY_BYTES:
            return 0
        return int(length or 0) + sum(connection.buffered_bytes for connection in self.connections)

    def _ready(self, _: Route) -> tuple[int, bytes]:
        ready = self.is_ready
        status = 200 if ready else 503
        return status, describe.json_response(status, {"ready": ready})

    def _model(self, route: Route) -> tuple[int, bytes]:
        served = self._models.find(route.model, route.version)
        versions = self._models.versions_of(route.model)
        return 200, describe.json_response(200, describe.model_metadata(served, versions))

    def _model_ready(self, route: Route) -> tuple[int, bytes]:
        served = self._models.find(route.model, route.version)
        ready = not self.is_draining and describe.num_loaded(self._dispatcher, served.key) > 0
        status = 200 if ready else 503
        return status, describe.json_response(status, {"name": route.model, "ready": ready})

    def _scrape(self, _: Route) -> tuple[int, bytes]:
        gauges = describe.gauges(self._models, self._dispatcher, ready=self.is_ready)
        return 200, response(200, render(self._metrics, gauges), content_type=_METRICS_TYPE)

    def _status(self, _: Route) -> tuple[int, bytes]:
        found = describe.status(
            self._models, self._dispatcher, self._journal, list(self.problems.values()), ready=self.is_ready
        )
        return 200, describe.json_response(200, found)


def _check_encoding(encoding: str) -> None:
    if encoding.strip().lower() != "identity":
        raise RefusedError(
            415,
            f"Content-Encoding: found {shorten(encoding)}, expected none",
            field="Content-Encoding",
            found=shorten(encoding),
            expected="a body that is not compressed",
            next_step="send the body as it is; binary tensors are smaller than compressed JSON",
        )
