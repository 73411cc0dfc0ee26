"""The front desk: every request comes here, is let in or refused, and is answered or handed on."""

from collections.abc import Callable
from typing import TypeVar

from shoal.base import new_token
from shoal.serve import describe, extensions
from shoal.serve.admission import AdmissionLimits, draining
from shoal.serve.auth import KeyCheck
from shoal.serve.cache import NotedCall
from shoal.serve.connection import Connection, Exchange
from shoal.serve.decoding import MOST_INLINE_PIXELS, Decoding
from shoal.serve.dispatch import Dispatcher
from shoal.serve.http import Head, response
from shoal.serve.images import Picture, has_imported_pillow, import_pillow
from shoal.serve.inference import Inference
from shoal.serve.journal import Journal
from shoal.serve.messages import Problem
from shoal.serve.metrics import Metrics, render
from shoal.serve.models import Models, ServedVersion
from shoal.serve.predicting import predicting_for
from shoal.serve.protocol import InferCall, parse_json_bytes
from shoal.serve.refusal import RefusedError, shorten
from shoal.serve.routes import Route, find_route
from shoal.serve.tensors import Array
from shoal.serve.urgency import FIRST, PLAIN, Urgency, from_headers, from_parameters, may_name_priority

T = TypeVar("T")
_METRICS_TYPE = b"text/plain; version=0.0.4; charset=utf-8"
_HTML_TYPE = b"text/html; charset=utf-8"
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
        self._decoding = Decoding()
        self._answers: dict[str, Callable[[Route, Head, bytes], tuple[int, bytes]]] = {
            "server": lambda *_: (200, describe.json_response(200, describe.server_metadata())),
            "live": lambda *_: (200, describe.json_response(200, {"live": True})),
            "ready": self._ready,
            "model": self._model,
            "model_ready": self._model_ready,
            "config": self._config,
            "statistics": self._statistics,
            "index": self._index,
            "load": self._repository,
            "unload": self._repository,
            "metrics": self._scrape,
            "status": self._status,
            "docs": self._docs,
            "openapi": self._openapi,
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
        if route.kind not in ("infer", "predict"):
            return
        if self.is_draining:
            raise draining()
        # All before the body is read: what will be refused anyway should cost nothing.
        served = self._find(route)
        arriving = self._arriving_bytes(head)
        # A small body may still name its priority: now only what not even the first would be let in for is refused.
        urgency = from_headers(head.headers) or (PLAIN if arriving or route.kind == "predict" else FIRST)
        self._dispatcher.admit(self._limits, arriving, urgency)
        if route.kind == "predict":
            predicting_for(served.interface).check(head)

    def take(self, exchange: Exchange, body: bytes) -> None:
        """Answer a whole request, now or when a replica has run it."""
        head = exchange.head
        route = find_route(head.method, head.path)
        if route.kind == "infer":
            self._infer(exchange, route, body)
        elif route.kind == "predict":
            self._predict(exchange, route, body)
        else:
            exchange.answer(*self._answers[route.kind](route, head, body))

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
        urgency = from_headers(exchange.head.headers)
        # Parsing costs more than refusing: what cannot be of another level than the default is judged before it.
        is_calm = self._dispatcher.is_calm(self._limits, 0)
        if urgency is None and not is_calm and not may_name_priority(body):
            self._dispatcher.admit(self._limits, 0)
        call = self._dispatcher.read(served, body, json_bytes)
        urgency = from_parameters(call.parameters, urgency)
        if not is_calm or urgency is not PLAIN:
            self._dispatcher.admit(self._limits, 0, urgency)
        request_id = call.id or self._new_id()
        if route.version is None:
            chosen = self._models.choose(served, request_id)
            # The id that chooses the version stands in the body, so the body was read as the main version has it.
            if chosen.protocol is not served.protocol:
                call = self._dispatcher.read(chosen, body, json_bytes)
            served = chosen
        self._submit(exchange, served, call, request_id, len(body), urgency)

    def _predict(self, exchange: Exchange, route: Route, body: bytes) -> None:
        served = self._find(route)
        request_id = self._new_id()
        if route.version is None:
            served = self._models.choose(served, request_id)
        reads = predicting_for(served.interface)
        if not has_imported_pillow() and reads.check(exchange.head).is_picture:
            # Once, and beside the loop, which it would hold up for many requests' time.
            self._decode(
                exchange, import_pillow, MOST_INLINE_PIXELS + 1, body, lambda _: self._predict(exchange, route, body)
            )
            return
        found = reads.read(exchange.head, body)
        if not isinstance(found, Picture):
            self._submit(exchange, served, found, request_id, len(body))
            return

        def submit(row: Array) -> None:
            # It may have been replaced while the picture was decoded.
            if self._models.versions.get(served.key) is not served:
                raise _replaced(served)
            self._submit(exchange, served, reads.call(row), request_id, row.nbytes)

        self._decode(exchange, found.decode, found.num_pixels, body, submit)

    def _decode(
        self, exchange: Exchange, work: Callable[[], T], num_pixels: int, body: bytes, then: Callable[[T], None]
    ) -> None:
        self._decoding.run(work, num_pixels=num_pixels, num_bytes=len(body), then=then, refuse=exchange.refuse)

    def _submit(
        self,
        exchange: Exchange,
        served: ServedVersion,
        call: InferCall | NotedCall,
        request_id: str,
        num_bytes: int,
        urgency: Urgency | None = None,
    ) -> None:
        urgency = urgency or from_headers(exchange.head.headers) or PLAIN
        # Most models have one form; comparing None is cheaper than comparing shapes.
        form = None if served.has_one_form else tuple(array.shape[1:] for array in call.arrays)
        self._dispatcher.submit(
            served.key,
            Inference(
                exchange,
                call,
                request_id,
                num_bytes,
                form,
                runs_alone=not served.interface.batched,
                level=urgency.level,
                deadline_s=exchange.started_s + urgency.timeout_s,
            ),
        )

    def _new_id(self) -> str:
        self._num_requests += 1
        return f"{self._token}{self._num_requests:x}"

    def _find(self, route: Route) -> ServedVersion:
        # Without a name it is the model that the server was started with, which stands first in every plan.
        return self._models.find(route.model or next(iter(self._models.plan), ""), route.version)

    def _arriving_bytes(self, head: Head) -> int:
        """Bytes of bodies that are still to come or not complete; 0 for a small one, to keep small requests quick."""
        length = head.headers.get(b"content-length")
        if length is not None and int(length) <= _SMALL_BODY_BYTES:
            return 0
        arriving = int(length or 0) + sum(connection.buffered_bytes for connection in self.connections)
        return arriving + self._decoding.num_bytes

    def _ready(self, *_: object) -> tuple[int, bytes]:
        ready = self.is_ready
        status = 200 if ready else 503
        return status, describe.json_response(status, {"ready": ready})

    def _model(self, route: Route, *_: object) -> tuple[int, bytes]:
        served = self._models.find(route.model, route.version)
        versions = self._models.versions_of(route.model)
        return 200, describe.json_response(200, describe.model_metadata(served, versions))

    def _model_ready(self, route: Route, *_: object) -> tuple[int, bytes]:
        served = self._models.find(route.model, route.version)
        ready = not self.is_draining and describe.num_loaded(self._dispatcher, served.key) > 0
        status = 200 if ready else 503
        return status, describe.json_response(status, {"name": route.model, "ready": ready})

    def _scrape(self, *_: object) -> tuple[int, bytes]:
        gauges = describe.gauges(self._models, self._dispatcher, ready=self.is_ready)
        return 200, response(200, render(self._metrics, gauges), content_type=_METRICS_TYPE)

    def _status(self, *_: object) -> tuple[int, bytes]:
        found = describe.status(
            self._models, self._dispatcher, self._journal, list(self.problems.values()), ready=self.is_ready
        )
        return 200, describe.json_response(200, found)

    def _config(self, route: Route, *_: object) -> tuple[int, bytes]:
        served = self._models.find(route.model, route.version)
        found = extensions.model_config(served, self._dispatcher.most_rows(served.key))
        return 200, describe.json_response(200, found)

    def _statistics(self, route: Route, *_: object) -> tuple[int, bytes]:
        if route.model:
            # Without a version all of them, as a canary's numbers stand beside those of the main one.
            self._models.find(route.model, route.version)
        found = [
            extensions.model_statistics(served, self._metrics.of(key))
            for key, served in sorted(self._models.versions.items())
            if route.model in ("", key.model) and route.version in (None, key.version)
        ]
        return 200, describe.json_response(200, {"model_stats": found})

    def _index(self, _: Route, __: Head, body: bytes) -> tuple[int, bytes]:
        wish = extensions.read_index_body(body)
        found = describe.index(self._models, self._dispatcher)
        if wish.ready:
            found = [entry for entry in found if entry["state"] == "READY"]
        return 200, describe.json_response(200, found)

    @staticmethod
    def _repository(route: Route, *_: object) -> tuple[int, bytes]:
        raise extensions.no_repository(route.kind, route.model)

    def _docs(self, _: Route, head: Head, __: bytes) -> tuple[int, bytes]:
        # Imported when somebody looks, as below: a front that starts should not wait for it.
        from shoal.serve.page import POLICY, page

        host = head.headers.get(b"host", b"localhost:8080").decode("latin-1")
        html = page(self._models, host, has_key=self._key.is_needed)
        return 200, response(200, html, content_type=_HTML_TYPE, headers={"Content-Security-Policy": POLICY})

    def _openapi(self, *_: object) -> tuple[int, bytes]:
        from shoal.serve.openapi import document

        return 200, describe.json_response(200, document(self._models, has_key=self._key.is_needed))


def _replaced(served: ServedVersion) -> RefusedError:
    return RefusedError(
        503,
        f"{served.key.model}@{served.key.version} was replaced while the picture was decoded",
        next_step="send it again",
        retry_after_s=0.05,
    )


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
