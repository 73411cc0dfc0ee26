"""Spans by OpenTelemetry's own SDK, sent by its own exporter over OTLP/HTTP. The one file that imports it."""

import random
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from typing import TypeAlias

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

from shoal.serve.records.passage import Passage, Ran
from shoal.serve.wire.trace_context import TraceContext

_Attributes: TypeAlias = Mapping[str, str | int | bool]

_SCOPE = InstrumentationScope("shoal.serve")
# What the SDK says of a service that was given no name.
_UNKNOWN = "unknown_service"
_SPAN_BITS = 64
# The system's own source: fronts are forked from one process, and must not count up the same numbers.
_numbers = random.SystemRandom()


class OtlpExporter:
    """Sends spans to a collector. Headers, certificates and timeouts come from OpenTelemetry's own variables."""

    def __init__(self, url: str) -> None:
        """Send to this whole address, such as http://127.0.0.1:4318/v1/traces."""
        self._exporter = OTLPSpanExporter(endpoint=url)
        self._resource = service_resource()

    def export(self, passages: list[Passage]) -> bool:
        """Send the spans of these requests; False when that failed, also after some tries again."""
        spans = [span for passage in passages for span in spans_of(passage, self._resource)]
        return self._exporter.export(spans) is SpanExportResult.SUCCESS

    def close(self) -> None:
        """Send no more."""
        self._exporter.shutdown()  # type: ignore[no-untyped-call]  # the SDK left its types out here


def service_resource() -> Resource:
    """What the spans are of: as OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES say, else a service named shoal."""
    found = Resource.create()
    name = str(found.attributes.get(SERVICE_NAME, _UNKNOWN))
    return found.merge(Resource({SERVICE_NAME: "shoal"})) if name.startswith(_UNKNOWN) else found


def spans_of(passage: Passage, resource: Resource) -> Iterator[ReadableSpan]:
    """The spans of one request that belongs to a trace: its own, and below it where its time went.

    `queue` is the wait for a replica, `model` the batch that the request was a part of, `writing` what follows until
    the answer is out: logging, encoding, sending. What lies before the queue is receiving and reading.
    """
    trace = passage.trace
    assert trace is not None

    def span(
        name: str, start_s: float, end_s: float, attributes: _Attributes, *, id: str | None = None
    ) -> ReadableSpan:
        is_whole = id is not None
        status = Status(StatusCode.ERROR) if is_whole and passage.status >= HTTPStatus.INTERNAL_SERVER_ERROR else None
        parent_id = trace.parent_id if is_whole else trace.span_id
        return ReadableSpan(
            name,
            context=_context(trace, id or _new_span_id(), is_remote=False),
            parent=None if parent_id is None else _context(trace, parent_id, is_remote=is_whole),
            resource=resource,
            attributes=attributes,
            kind=SpanKind.SERVER if is_whole else SpanKind.INTERNAL,
            status=status or Status(),
            start_time=passage.wall_ns(start_s),
            end_time=passage.wall_ns(end_s),
            instrumentation_scope=_SCOPE,
        )

    ran = passage.ran
    yield span(_name(passage), passage.started_s, passage.answered_s, _attributes(passage), id=trace.span_id)
    if ran is None:
        return
    if ran.batch_rows:
        batch: dict[str, str | int] = {"shoal.batch_rows": ran.batch_rows, "shoal.model": ran.model}
        if ran.replica is not None:
            batch["shoal.replica"] = ran.replica
        yield span("queue", ran.queued_s, ran.taken_s, {})
        yield span("model", max(ran.taken_s, ran.done_s - ran.model_s), ran.done_s, batch)
    yield span("writing", ran.done_s, passage.answered_s, {})


def _name(passage: Passage) -> str:
    if passage.protocol == "grpc":
        return passage.path.strip("/")
    # What a stranger makes up must not become a name: they are to be few.
    is_ours = passage.ran is not None or passage.status < HTTPStatus.BAD_REQUEST
    return f"{passage.method} {passage.path}" if is_ours else passage.method or "HTTP"


def _attributes(passage: Passage) -> _Attributes:
    # By the conventions of OpenTelemetry where there is one.
    found: dict[str, str | int | bool] = {
        "http.response.status_code": passage.status,
        "http.request.body.size": passage.num_bytes_in,
        "http.response.body.size": passage.num_bytes_out,
        "url.path": passage.path,
    }
    if passage.protocol == "grpc":
        service, _, method = passage.path.strip("/").partition("/")
        found |= {"rpc.system": "grpc", "rpc.service": service, "rpc.method": method}
    else:
        found["http.request.method"] = passage.method
    if passage.client:
        found["client.address"] = passage.client
    return found if passage.ran is None else found | _of_prediction(passage.ran)


def _of_prediction(ran: Ran) -> dict[str, str | int | bool]:
    return {
        "shoal.model": ran.model,
        "shoal.version": ran.version,
        "shoal.request_id": ran.request_id,
        "shoal.prediction_id": ran.prediction_id,
        "shoal.rows": ran.num_rows,
        "shoal.is_from_cache": not ran.batch_rows,
    }


def _context(trace: TraceContext, span_id: str, *, is_remote: bool) -> SpanContext:
    return SpanContext(
        int(trace.trace_id, 16),
        int(span_id, 16),
        is_remote,
        TraceFlags(TraceFlags.SAMPLED),
        TraceState.from_header([trace.state]) if trace.state else None,
    )


def _new_span_id() -> str:
    return f"{_numbers.getrandbits(_SPAN_BITS) or 1:016x}"
