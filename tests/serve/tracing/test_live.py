"""A real server, real clients and a real collector's protocol: what is told of requests, by several fronts."""

import json
import os
import signal
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
from opentelemetry import propagate, trace
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from tritonclient.grpc import service_pb2 as pb

import shoal.store
from shoal.base import open_log
from shoal.model import why
from shoal.serve import Client, start

pytestmark = pytest.mark.slow
ROW = {"image": np.zeros((1, 2, 2), np.uint8)}


class Collector:
    """Takes spans over OTLP/HTTP, as a collector does."""

    def __init__(self) -> None:
        self.received = []
        received = self.received

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                received.append((self.path, ExportTraceServiceRequest.FromString(body)))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def spans(self, trace_id: int):
        return [
            span
            for _, request in list(self.received)
            for of_resource in request.resource_spans
            for of_scope in of_resource.scope_spans
            for span in of_scope.spans
            if int.from_bytes(span.trace_id, "big") == trace_id
        ]


@pytest.fixture(scope="module")
def collector():
    collector = Collector()
    thread = threading.Thread(target=collector.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield collector
    collector.server.shutdown()
    thread.join()
    collector.server.server_close()


@pytest.fixture(scope="module")
def lines_file(tmp_path_factory):
    return tmp_path_factory.mktemp("lines") / "requests.jsonl"


@pytest.fixture(scope="module")
def seen(scorer, collector, lines_file):
    options = {"access_log": lines_file, "traces": collector.url, "trace_sample": 0.0}
    with start(scorer, port=0, grpc_port=0, replicas=1, fronts=2, **options) as server:
        yield server


@pytest.fixture(scope="module")
def tracer():
    """Of a caller that uses OpenTelemetry as it comes."""
    return TracerProvider().get_tracer("caller")


def lines_of(file, **wanted):
    if not file.exists():
        return []
    # The last line may be on its way.
    lines = [json.loads(line) for line in file.read_text().rpartition("\n")[0].splitlines()]
    return [line for line in lines if all(line.get(name) == value for name, value in wanted.items())]


def carried():
    headers = {}
    propagate.inject(headers)
    return headers


def span_ids(header: str) -> tuple[int, int]:
    _, trace_id, span_id, _ = header.split("-")
    return int(trace_id, 16), int(span_id, 16)


def test_each_answer_is_a_line(seen, connect, lines_file, image_request, eventually):
    wire = connect(seen.port)

    _, answer = wire.infer("scorer", {**image_request, "id": "a line"})
    wire.infer("nobody", image_request)

    eventually(lambda: lines_of(lines_file, path="/v2/models/nobody/infer"))
    (line,) = lines_of(lines_file, request_id="a line")
    assert line["prediction_id"] == answer["parameters"]["prediction_id"]
    assert (line["status"], line["model"], line["version"], line["rows"], line["batch_rows"]) == (
        200,
        "scorer",
        "1",
        1,
        1,
    )
    assert line["client"] == "127.0.0.1"
    assert line["bytes_in"] == len(json.dumps({**image_request, "id": "a line"}))
    assert line["bytes_out"] == len(json.dumps(answer, separators=(",", ":")))
    assert 0 <= line["queue_ms"] + line["model_ms"] <= line["total_ms"]
    assert "trace_id" not in line
    (refused,) = lines_of(lines_file, path="/v2/models/nobody/infer")
    assert refused["status"] == 404
    assert "prediction_id" not in refused


def test_a_call_is_a_line_too(seen, lines_file, eventually):
    with triton.InferenceServerClient(f"127.0.0.1:{seen.grpc_port}") as client:
        image = triton.InferInput("image", [1, 2, 2], "UINT8")
        image.set_data_from_numpy(ROW["image"])
        client.infer("scorer", [image], request_id="a call")

    eventually(lambda: lines_of(lines_file, request_id="a call"))
    (line,) = lines_of(lines_file, request_id="a call")
    assert (line["protocol"], line["status"], line["model"], line["client"]) == ("grpc", 200, "scorer", "127.0.0.1")
    assert line["path"] == "/inference.GRPCInferenceService/ModelInfer"
    assert line["bytes_out"] > 0


def test_many_clients_of_several_fronts_make_whole_lines(seen, lines_file, eventually):
    def ask(name):
        with Client(seen.url) as client:
            for number in range(50):
                client.infer("scorer", ROW, request_id=f"{name} {number}")

    threads = [threading.Thread(target=ask, args=(f"many {number}",)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    def found():
        return [line for line in lines_of(lines_file) if line.get("request_id", "").startswith("many")]

    eventually(lambda: len(found()) == 400)
    assert len({line["request_id"] for line in found()}) == 400


def test_a_callers_trace_goes_on_in_the_server(seen, connect, tracer, collector, image_request, lines_file, eventually):
    with tracer.start_as_current_span("asking") as span:
        context = span.get_span_context()
        body = json.dumps(image_request).encode()
        status, headers, _ = connect(seen.port).ask("POST", "/v2/models/scorer/infer", body, **carried())

    eventually(lambda: len(collector.spans(context.trace_id)) == 4)
    whole, *parts = collector.spans(context.trace_id)
    assert status == 200
    assert span_ids(headers["traceparent"]) == (context.trace_id, int.from_bytes(whole.span_id, "big"))
    assert int.from_bytes(whole.parent_span_id, "big") == context.span_id
    assert {part.name: part.parent_span_id for part in parts} == dict.fromkeys(
        ("queue", "model", "writing"), whole.span_id
    )
    times = [time for part in parts for time in (part.start_time_unix_nano, part.end_time_unix_nano)]
    assert whole.start_time_unix_nano <= min(times) <= max(times) <= whole.end_time_unix_nano
    assert {path for path, _ in collector.received} == {"/v1/traces"}
    assert lines_of(lines_file, trace_id=trace.format_trace_id(context.trace_id))


def test_a_call_joins_its_callers_trace(seen, tracer, collector, eventually):
    tensor = pb.ModelInferRequest.InferInputTensor(name="image", datatype="UINT8", shape=[1, 2, 2])
    request = pb.ModelInferRequest(model_name="scorer", inputs=[tensor], raw_input_contents=[b"\0\1\2\3"])
    with (
        grpc.insecure_channel(f"127.0.0.1:{seen.grpc_port}") as channel,
        tracer.start_as_current_span("calling") as span,
    ):
        context = span.get_span_context()
        method = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        _, call = method.with_call(request.SerializeToString(), metadata=tuple(carried().items()))

    eventually(lambda: len(collector.spans(context.trace_id)) == 4)
    whole = collector.spans(context.trace_id)[0]
    back = dict(call.initial_metadata())["traceparent"]
    assert whole.name == "inference.GRPCInferenceService/ModelInfer"
    assert int.from_bytes(whole.parent_span_id, "big") == context.span_id
    assert span_ids(back) == (context.trace_id, int.from_bytes(whole.span_id, "big"))


def test_a_refused_request_has_a_span_and_joins_too(seen, connect, tracer, collector, eventually):
    with tracer.start_as_current_span("asking in vain") as span:
        context = span.get_span_context()
        status, headers, _ = connect(seen.port).ask("POST", "/v2/models/nobody/infer", b"{}", **carried())

    eventually(lambda: collector.spans(context.trace_id))
    (whole,) = collector.spans(context.trace_id)
    assert status == 404
    assert span_ids(headers["traceparent"])[0] == context.trace_id
    assert int.from_bytes(whole.parent_span_id, "big") == context.span_id


def test_what_a_caller_does_not_record_is_not_recorded_here(
    seen, connect, collector, image_request, lines_file, eventually
):
    quiet = TracerProvider(sampler=ALWAYS_OFF).get_tracer("caller")
    with quiet.start_as_current_span("asking") as span:
        context = span.get_span_context()
        body = json.dumps({**image_request, "id": "quiet"}).encode()
        _, headers, _ = connect(seen.port).ask("POST", "/v2/models/scorer/infer", body, **carried())

    eventually(lambda: lines_of(lines_file, request_id="quiet"))
    assert headers["traceparent"].endswith("-00")
    assert lines_of(lines_file, request_id="quiet")[0]["trace_id"] == trace.format_trace_id(context.trace_id)
    assert collector.spans(context.trace_id) == []


def test_a_collector_that_is_away_holds_up_no_answer_and_no_stop(scorer, tracer):
    with start(scorer, port=0, replicas=1, traces="http://127.0.0.1:1") as server, Client(server.url) as client:
        answers = [client.infer("scorer", ROW) for _ in range(20)]

    assert len(answers) == 20


def test_without_wishes_no_context_is_given_back(server, connect, tracer, image_request):
    with tracer.start_as_current_span("asking"):
        body = json.dumps(image_request).encode()
        _, headers, _ = connect(server.port).ask("POST", "/v2/models/scorer/infer", body, **carried())

    assert "traceparent" not in headers


def test_a_sampled_log_without_a_field_leads_back_all_the_same(scorer, tmp_path):
    logs = tmp_path / "logs"
    options = {"log_folder": logs, "log_sample": 0.3, "log_drop": ["image"], "fronts": 2}
    with start(scorer, port=0, replicas=1, prediction_cache_bytes=1 << 20, **options) as server:
        ids = {}
        for number in range(60):
            with Client(server.url) as client:
                answer = client.infer("scorer", {"image": np.zeros((2, 2, 2), np.uint8)}, request_id=f"r{number}")
            ids[f"r{number}"] = answer.prediction_ids
        server.sync_log()

    log = open_log(logs / "scorer")
    logged = [id for _, batch in log.read() for id in batch["prediction_id"].to_pylist()]
    assert log.schema.names == ["prediction_id", "version", "time_us", "scores"]
    assert sorted(logged) == sorted(id for pair in ids.values() for id in pair if "unsampled" not in id)
    assert 0 < len(logged) < 120
    with shoal.store.open(tmp_path / ".shoal") as store:
        for id in (pair[1] for pair in ids.values()):
            found = why(id, store, log_folder=logs)
            assert (found.input_row is None) == ("unsampled" in id)


def test_a_name_that_the_model_does_not_have_stops_the_start(scorer, tmp_path):
    with pytest.raises(shoal.base.ServeError, match="'imgae' from the log of scorer"):
        start(scorer, port=0, replicas=1, log_folder=tmp_path, log_drop=["imgae"])


def test_lines_go_to_stderr_and_a_hangup_does_no_harm(scorer, tmp_path, eventually):
    code = "from shoal.cli import main; main()"
    options = ["--port", "0", "--replicas", "1", "--json", "--access-log"]
    command = [sys.executable, "-c", code, "serve", "run", str(scorer), *options]
    for target in ("-", "requests.jsonl"):
        process = subprocess.Popen(
            [*command, target], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        text = ""
        while not text.endswith("\n}\n"):
            text += process.stdout.readline()
        os.kill(process.pid, signal.SIGHUP)
        told = json.loads(text)
        os.kill(told["front"], signal.SIGHUP)
        with Client(told["url"]) as client:
            client.infer("scorer", ROW, request_id="seen")
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=60)

        written = err if target == "-" else (tmp_path / target).read_text()
        lines = [json.loads(line) for line in written.splitlines() if line.startswith("{")]
        assert process.returncode == 0
        assert [line["request_id"] for line in lines if line["path"].endswith("/infer")] == ["seen"]
