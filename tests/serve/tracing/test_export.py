import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from shoal.serve.tracing.export import OtlpExporter, service_resource, spans_of
from shoal.serve.wire.trace_context import TraceContext

TRACE, SPAN, CALLER = "4bf92f3577b34da6a3ce929d0e0e4736", "b9c7c989f97918e1", "00f067aa0ba902b7"
PLACE = TraceContext(TRACE, SPAN, CALLER, is_sampled=True, state="vendor=a,other=b")


class Collector:
    """A receiver of OTLP over HTTP that decodes what comes by the official messages."""

    def __init__(self) -> None:
        self.requests, self.paths, self.status = [], [], 200
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                collector.paths.append(self.path)
                collector.requests.append(ExportTraceServiceRequest.FromString(body))
                self.send_response(collector.status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    @property
    def spans(self):
        return [
            span
            for request in list(self.requests)
            for of_resource in request.resource_spans
            for of_scope in of_resource.scope_spans
            for span in of_scope.spans
        ]


@pytest.fixture
def collector():
    collector = Collector()
    thread = threading.Thread(target=collector.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield collector
    collector.server.shutdown()
    thread.join()
    collector.server.server_close()


@pytest.fixture
def exporter(collector, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    exporter = OtlpExporter(f"{collector.url}/v1/traces")
    yield exporter
    exporter.close()


def attributes(span):
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in span.attributes}


def test_a_collector_understands_a_request_and_where_its_time_went(exporter, collector, make_passage):
    assert exporter.export([make_passage(trace=PLACE)])

    spans = {span.name: span for span in collector.spans}
    assert collector.paths == ["/v1/traces"]
    assert list(spans) == ["POST /v2/models/fashion/infer", "queue", "model", "writing"]
    whole, queue, model, writing = spans.values()
    assert {span.trace_id.hex() for span in spans.values()} == {TRACE}
    assert (whole.span_id.hex(), whole.parent_span_id.hex(), whole.trace_state) == (SPAN, CALLER, "vendor=a,other=b")
    assert {span.parent_span_id.hex() for span in (queue, model, writing)} == {SPAN}
    assert len({span.span_id for span in spans.values()}) == 4
    assert (whole.kind, queue.kind) == (whole.SPAN_KIND_SERVER, whole.SPAN_KIND_INTERNAL)
    assert attributes(model) == {"shoal.batch_rows": 8, "shoal.model": "fashion", "shoal.replica": 1}
    assert attributes(whole)["shoal.prediction_id"] == "fashion@3.x7k2p9.12"
    assert attributes(whole)["http.response.status_code"] == 200
    assert attributes(whole)["client.address"] == "10.0.0.7"


def test_times_are_those_that_the_front_took(exporter, collector, make_passage):
    exporter.export([make_passage(trace=PLACE)])

    end_ns = 1_760_000_000_250_000_000
    found = [(each.start_time_unix_nano - end_ns, each.end_time_unix_nano - end_ns) for each in collector.spans]
    milliseconds = [(round(start / 1e6), round(end / 1e6)) for start, end in found]
    assert milliseconds == [(-10, 0), (-9, -7), (-6, -1), (-1, 0)]


def test_a_trace_that_begins_here_has_no_parent(exporter, collector, make_passage):
    exporter.export([make_passage(trace=replace(PLACE, parent_id=None, state=""))])

    assert collector.spans[0].parent_span_id == b""


def test_an_answer_from_the_cache_waited_for_no_model(make_passage):
    kept = replace(make_passage().ran, batch_rows=0, replica=None)

    spans = list(spans_of(make_passage(trace=PLACE, ran=kept), service_resource()))

    assert [span.name for span in spans] == ["POST /v2/models/fashion/infer", "writing"]
    assert spans[0].attributes["shoal.is_from_cache"] is True


@pytest.mark.parametrize(("status", "is_error"), [(200, False), (404, False), (500, True), (503, True)])
def test_only_our_own_failures_are_errors(make_passage, status, is_error):
    (span,) = spans_of(make_passage(trace=PLACE, ran=None, status=status), service_resource())

    assert (span.status.status_code.name == "ERROR") is is_error


def test_a_path_that_a_stranger_made_up_is_no_name(make_passage):
    (span,) = spans_of(make_passage(trace=PLACE, ran=None, status=404, path="/x9f1"), service_resource())

    assert (span.name, span.attributes["url.path"]) == ("POST", "/x9f1")


def test_a_call_is_named_as_grpc_has_it(make_passage):
    call = make_passage(trace=PLACE, protocol="grpc", path="/inference.GRPCInferenceService/ModelInfer")

    span = next(iter(spans_of(call, service_resource())))

    assert span.name == "inference.GRPCInferenceService/ModelInfer"
    assert (span.attributes["rpc.system"], span.attributes["rpc.method"]) == ("grpc", "ModelInfer")
    assert span.attributes["rpc.service"] == "inference.GRPCInferenceService"


def test_a_collector_that_refuses_is_told(exporter, collector, make_passage):
    collector.status = 400

    assert not exporter.export([make_passage(trace=PLACE)])


@pytest.mark.parametrize(("variable", "name"), [(None, "shoal"), ("prices", "prices")])
def test_the_service_is_named_by_its_environment(monkeypatch, variable, name):
    monkeypatch.delenv("OTEL_RESOURCE_ATTRIBUTES", raising=False)
    monkeypatch.delenv("OTEL_SERVICE_NAME", raising=False)
    if variable:
        monkeypatch.setenv("OTEL_SERVICE_NAME", variable)

    assert service_resource().attributes["service.name"] == name
