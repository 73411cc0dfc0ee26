"""The front desk: every request comes here, is let in or refused, and is answered or handed on."""

from collections.abc import Callable
from typing import Literal, NamedTuple, TypeVar

from shoal.base import new_token
from shoal.serve.batching.admission import AdmissionLimits, draining
from shoal.serve.batching.cache import NotedCall
from shoal.serve.batching.dispatch import Dispatcher
from shoal.serve.batching.inference import Inference
from shoal.serve.desk import describe, extensions
from shoal.serve.desk.connection import Connection, Exchange
from shoal.serve.desk.decoding import MOST_INLINE_PIXELS, Decoding
from shoal.serve.desk.routes import Route, find_route, prefix_of
from shoal.serve.desk.wishes import Wishes
from shoal.serve.links.messages import Problem
from shoal.serve.records.journal import Journal
from shoal.serve.records.metrics import Metrics, render
from shoal.serve.tracing.observer import Observer
from shoal.serve.versions.models import Models, ServedVersion
from shoal.serve.wire.auth import KeyCheck
from shoal.serve.wire.http import Head, KnownHeads, response
from shoal.serve.wire.images import Picture, has_imported_pillow, import_pillow
from shoal.serve.wire.predicting import predicting_for
from shoal.serve.wire.protocol import InferCall, parse_json_bytes
from shoal.serve.wire.refusal import RefusedError, shorten
from shoal.serve.wire.tensors import Array
from shoal.serve.wire.urgency import FIRST, PLAIN, Urgency, from_headers, from_parameters, may_name_priority

T = TypeVar("T")
_METRICS_TYPE = b"text/plain; version=0.0.4; charset=utf-8"
_HTML_TYPE = b"text/html; charset=utf-8"
_HEALTH = "/v2/health/"
# One read brings a body of this size whole, or nearly: such requests need not be counted while they arrive.
_SMALL_BODY_BYTES = 64 << 10


class _Judged(NamedTuple):
    """What a head says that stays true for every request that begins with the same bytes.

    Attributes:
        route: what it asks for.
        urgency: by its headers; None without such.
        json_bytes: of the body, where raw tensors follow them.
        is_small: whether one read brings the whole body, or nearly: then it need not be counted while it arrives.
    """

    route: Route
    urgency: Urgency | None
    json_bytes: int | None
    is_small: bool


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
        self.known_heads = KnownHeads()
        self.observer: Observer | None = None
        self.is_draining = False
        self.problems: dict[str, Problem] = {}
        # None where there is no supervisor who could load and unload models.
        self.wishes: Wishes | None = None
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
        judged = self._judge(head)
        route = judged.route
        if route.kind not in ("infer", "predict"):
            return
        if self.is_draining:
            raise draining()
        # All before the body is read: what will be refused anyway should cost nothing.
        served = self._find(route)
        arriving = 0 if judged.is_small else self._arriving_bytes(head)
        # A small body may still name its priority: now only what not even the first would be let in for is refused.
        urgency = judged.urgency or (PLAIN if arriving or route.kind == "predict" else FIRST)
        self._dispatcher.admit(self._limits, arriving, urgency)
        if route.kind == "predict":
            predicting_for(served.interface).check(head)

    def take(self, exchange: Exchange, body: bytes) -> None:
        """Answer a whole request, now or when a replica has run it."""
        head = exchange.head
        judged = self._judge(head)
        route = judged.route
        if route.kind == "infer":
            self._infer(exchange, judged, body)
        elif route.kind == "predict":
            self._predict(exchange, route, body)
        elif route.kind == "load" or route.kind == "unload":
            extensions.check_wish(head, body)
            done = describe.json_response(200, {})
            self.make_wish(route.kind, route.model, lambda: exchange.answer(200, done), exchange.refuse)
        else:
            exchange.answer(*self._answers[route.kind](route, head, body))

    def make_wish(
        self,
        action: Literal["load", "unload"],
        model: str,
        done: Callable[[], None],
        refuse: Callable[[RefusedError], None],
    ) -> None:
        """Have a model loaded or unloaded; `done` or `refuse` is called when every front has come to it, or cannot."""
        if self.wishes is None:
            raise extensions.no_repository(action, model)
        if self.is_draining:
            raise draining()
        self.wishes.make(action, model, done, refuse)

    def all_metrics(self) -> Metrics:
        """What was counted, by every front of the server."""
        return self._metrics

    def count(self, status: int) -> None:
        """Count an answer that was sent."""
        self._metrics.answers[status] += 1

    def opened(self, connection: Connection) -> None:
        """Know a new connection."""
        self.connections.add(connection)

    def closed(self, connection: Connection) -> None:
        """Forget a connection."""
        self.connections.discard(connection)

    def _judge(self, head: Head) -> _Judged:
        judged: _Judged | None = head.judged
        if judged is not None:
            return judged
        headers = head.headers
        # The key comes first: without it nobody learns which paths and models exist.
        if not head.path.startswith(_HEALTH):
            self._key.check(headers)
        route = find_route(head.method, head.path)
        if encoding := headers.get(b"content-encoding", b"identity").decode("latin-1"):
            _check_encoding(encoding)
        length = headers.get(b"content-length")
        is_infer = route.kind == "infer"
        judged = head.judged = _Judged(
            route,
            from_headers(headers) if is_infer or route.kind == "predict" else None,
            parse_json_bytes(headers.get(b"inference-header-content-length")) if is_infer else None,
            length is not None and int(length) <= _SMALL_BODY_BYTES,
        )
        return judged

    def _infer(self, exchange: Exchange, judged: _Judged, body: bytes) -> None:
        route, urgency, json_bytes, _ = judged
        served = self._models.find(route.model, route.version)
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
        name = route.model or self._models.default or next(iter(self._models.plan), "")
        return self._models.find(name, route.version)

    def _arriving_bytes(self, head: Head) -> int:
        """Bytes of bodies that are still to come or not complete."""
        arriving = int(head.headers.get(b"content-length") or 0) + sum(
            connection.buffered_bytes for connection in self.connections
        )
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
        metrics = self.all_metrics()
        found = [
            extensions.model_statistics(served, metrics.of(key))
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

    def _docs(self, _: Route, head: Head, __: bytes) -> tuple[int, bytes]:
        # Imported when somebody looks, as below: a front that starts should not wait for it.
        from shoal.serve.desk.page import POLICY, page

        host = head.headers.get(b"host", b"localhost:8080").decode("latin-1") + prefix_of(head.headers)
        html = page(self._models, host, has_key=self._key.is_needed)
        return 200, response(200, html, content_type=_HTML_TYPE, headers={"Content-Security-Policy": POLICY})

    def _openapi(self, _: Route, head: Head, __: bytes) -> tuple[int, bytes]:
        from shoal.serve.desk.openapi import document

        found = document(self._models, has_key=self._key.is_needed, prefix=prefix_of(head.headers))
        return 200, describe.json_response(200, found)


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
