"""inference.GRPCInferenceService: what each method answers, from the same parts as over HTTP."""

from collections.abc import Callable, Mapping
from typing import Any, Literal, cast

from shoal.base import new_token
from shoal.serve.batching.admission import AdmissionLimits, draining
from shoal.serve.batching.dispatch import Dispatcher
from shoal.serve.batching.inference import Inference
from shoal.serve.desk import describe, extensions
from shoal.serve.desk.connection import Connection
from shoal.serve.desk.desk import Desk
from shoal.serve.grpc import messages
from shoal.serve.grpc.call import Call
from shoal.serve.grpc.codec import Codec
from shoal.serve.grpc.connection import GrpcConnection
from shoal.serve.grpc.head import CallHead
from shoal.serve.grpc.wire import put_number
from shoal.serve.records.metrics import Metrics
from shoal.serve.tracing.observer import Observer
from shoal.serve.versions.models import Models, ServedVersion
from shoal.serve.wire import urgency
from shoal.serve.wire.auth import KeyCheck
from shoal.serve.wire.protocol import Protocol
from shoal.serve.wire.refusal import RefusedError, shorten
from shoal.serve.wire.urgency import Urgency

_SERVICE = "/inference.GRPCInferenceService/"
_INFER, _STREAM = f"{_SERVICE}ModelInfer", f"{_SERVICE}ModelStreamInfer"
_PREDICTIONS = frozenset([_INFER, _STREAM])
_WISHES: dict[str, Literal["load", "unload"]] = {
    f"{_SERVICE}RepositoryModelLoad": "load",
    f"{_SERVICE}RepositoryModelUnload": "unload",
}
# Of gRPC's own health protocol, which orchestrators ask.
_CHECK = "/grpc.health.v1.Health/Check"
_IS_SERVING, _IS_NOT_SERVING = 1, 2
# For load balancers, without a key, as over HTTP.
_HEALTH = frozenset([f"{_SERVICE}ServerLive", f"{_SERVICE}ServerReady", _CHECK])
# One read brings a message of this size whole, or nearly: such calls need not be counted while they arrive.
_SMALL_MESSAGE_BYTES = 64 << 10


class GrpcService:
    """Answers calls for all connections. Used by the event loop alone."""

    def __init__(
        self,
        desk: Desk,
        models: Models,
        dispatcher: Dispatcher,
        metrics: Metrics,
        *,
        key: KeyCheck,
        limits: AdmissionLimits,
        most_body_bytes: int,
        observer: Observer | None = None,
    ) -> None:
        self.most_body_bytes = most_body_bytes
        self.observer = observer
        self._desk = desk
        self._models = models
        self._dispatcher = dispatcher
        self._metrics = metrics
        self._key = key
        self._limits = limits
        self._codecs: dict[Protocol, Codec] = {}
        self._token = new_token(10)
        self._num_requests = 0
        methods: dict[str, Callable[[bytes, int], bytes]] = {
            "ServerLive": lambda *_: messages.put_flag(True),
            "ServerReady": lambda *_: messages.put_flag(self._desk.is_ready),
            "ModelReady": self._model_ready,
            "ServerMetadata": lambda *_: messages.put_server_metadata(describe.server_metadata()),
            "ModelMetadata": self._model_metadata,
            "ModelConfig": self._model_config,
            "ModelStatistics": self._model_statistics,
            "RepositoryIndex": self._index,
        }
        self._methods = {f"{_SERVICE}{name}": method for name, method in methods.items()}
        self._methods[_CHECK] = self._check_health

    @property
    def is_draining(self) -> bool:
        """Whether nothing new is taken."""
        return self._desk.is_draining

    @property
    def num_connections(self) -> int:
        """How many are open, those over HTTP with them."""
        return len(self._desk.connections)

    def admit(self, head: CallHead) -> bool:
        """Whether a call brings many requests; RefusedError for one that needs no message to be refused."""
        # The key comes first: without it nobody learns which methods and models exist.
        if head.path not in _HEALTH:
            self._key.check(head.headers)
        if head.path not in _PREDICTIONS:
            if head.path not in self._methods and head.path not in _WISHES:
                raise _no_method(head.path, [_INFER, _STREAM, *self._methods, *_WISHES])
        elif self._desk.is_draining:
            raise draining()
        return head.path == _STREAM

    def admit_message(self, head: CallHead, num_bytes: int) -> None:
        """Raise RefusedError for a request that would wait too long, or that there is no room for."""
        if head.path in _PREDICTIONS:
            if self._desk.is_draining and head.path == _STREAM:
                # A stream that was open before takes nothing new either.
                raise draining()
            arriving = 0
            if num_bytes > _SMALL_MESSAGE_BYTES:
                arriving = num_bytes + sum(connection.buffered_bytes for connection in self._desk.connections)
            self._dispatcher.admit(self._limits, arriving, _urgency_of(head))

    def take(self, call: Call, data: bytes, start: int) -> None:
        """Answer a call whose message begins at a byte, now or when a replica has run it."""
        path = call.head.path
        if path in _PREDICTIONS:
            self._infer(call, data, start)
        elif path in _WISHES:
            model, parameters = messages.read_wish(data, start)
            extensions.check_wish_parameters(parameters)
            self._desk.make_wish(_WISHES[path], model, lambda: call.answer(200, b""), call.refuse)
        else:
            call.answer(200, self._methods[path](data, start))

    def count(self, status: int) -> None:
        """Count an answer that was sent, under the status that it would have over HTTP."""
        self._metrics.answers[status] += 1

    def opened(self, connection: GrpcConnection) -> None:
        """Know a new connection."""
        # To the desk it is one like those over HTTP: it is looked after, and waited for when the server stops.
        self._desk.opened(cast("Connection", connection))

    def closed(self, connection: GrpcConnection) -> None:
        """Forget a connection."""
        self._desk.closed(cast("Connection", connection))

    def _infer(self, call: Call, data: bytes, start: int) -> None:
        request = messages.read_infer_request(data, start)
        call.request_id = request.id
        served = self._models.find(request.model_name, request.model_version or None)
        self._num_requests += 1
        request_id = request.id or f"{self._token}{self._num_requests:x}"
        if not request.model_version:
            served = self._models.choose(served, request_id)
        asked = self._codec(served).decode(request)
        wish = _urgency_of(call.head, request.parameters)
        # Most models have one form; comparing None is cheaper than comparing shapes.
        form = None if served.has_one_form else tuple(array.shape[1:] for array in asked.arrays)
        inference = Inference(
            call,
            asked,
            request_id,
            len(data),
            form,
            runs_alone=not served.interface.batched,
            level=wish.level,
            deadline_s=call.started_s + wish.timeout_s,
        )
        call.waits_as(inference)
        self._dispatcher.submit(served.key, inference)

    def _codec(self, served: ServedVersion) -> Codec:
        codec = self._codecs.get(served.protocol)
        if codec is None:
            codec = self._codecs[served.protocol] = Codec(served.interface)
        return codec

    def _find(self, data: bytes, start: int) -> ServedVersion:
        name, version = messages.read_name(data, start)
        return self._models.find(name, version or None)

    def _model_ready(self, data: bytes, start: int) -> bytes:
        served = self._find(data, start)
        return messages.put_flag(not self.is_draining and describe.num_loaded(self._dispatcher, served.key) > 0)

    def _model_metadata(self, data: bytes, start: int) -> bytes:
        served = self._find(data, start)
        found = describe.model_metadata(served, self._models.versions_of(served.key.model))
        return messages.put_model_metadata(found)

    def _model_config(self, data: bytes, start: int) -> bytes:
        served = self._find(data, start)
        return messages.put_model_config(extensions.model_config(served, self._dispatcher.most_rows(served.key)))

    def _model_statistics(self, data: bytes, start: int) -> bytes:
        name, version = messages.read_name(data, start)
        if name:
            # Without a version all of them, as a canary's numbers stand beside those of the main one.
            self._models.find(name, version or None)
        metrics = self._desk.all_metrics()
        return messages.put_statistics(
            extensions.model_statistics(served, metrics.of(key))
            for key, served in sorted(self._models.versions.items())
            if name in ("", key.model) and version in ("", key.version)
        )

    def _index(self, data: bytes, start: int) -> bytes:
        _, only_ready = messages.read_index_request(data, start)
        found = describe.index(self._models, self._dispatcher)
        return messages.put_index(entry for entry in found if not only_ready or entry["state"] == "READY")

    def _check_health(self, data: bytes, start: int) -> bytes:
        name, _ = messages.read_name(data, start)
        if name in ("", _SERVICE.strip("/")):
            is_serving = self._desk.is_ready
        elif name in self._models.plan:
            is_serving = not self.is_draining and describe.is_ready(self._models, self._dispatcher, name)
        else:
            raise RefusedError(
                404,
                f"there is no service {shorten(name)!r} here",
                field="service",
                found=shorten(name),
                expected=f"nothing, {_SERVICE.strip('/')} or a model's name",
                next_step="ask with an empty service for the whole server",
            )
        return put_number(1, _IS_SERVING if is_serving else _IS_NOT_SERVING)


def _urgency_of(head: CallHead, parameters: Mapping[str, Any] | None = None) -> Urgency:
    wish = urgency.from_parameters(parameters, urgency.from_headers(head.headers))
    # gRPC's own timeout says how long the client waits, the protocol's how long the answer is worth something.
    if head.timeout_s is None or head.timeout_s >= wish.timeout_s:
        return wish
    return wish._replace(timeout_s=head.timeout_s)


def _no_method(path: str, known: list[str]) -> RefusedError:
    return RefusedError(
        501,
        f"there is no method {shorten(path)} here",
        field="method",
        found=shorten(path),
        expected=f"one of {', '.join(known)}",
        next_step="use ModelInfer or ModelStreamInfer: shared memory between processes is not served",
    )
