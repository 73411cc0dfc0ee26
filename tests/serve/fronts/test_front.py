"""The whole front over a real socket: what a client may send, and what it gets."""

import json
import struct
import threading

import pytest
from prometheus_client.parser import text_string_to_metric_families

from shoal.base import SegmentReader, parse_prediction_id
from shoal.serve.batching.admission import AdmissionLimits
from shoal.serve.desk.connection import Connection
from shoal.serve.desk.crowd import TurnedAway
from shoal.serve.fronts.front import Front
from shoal.serve.links.messages import ModelPlan, Plan, WishDone, encode_message, read_from_front
from shoal.serve.versions.router import Shares
from shoal.serve.wire.auth import KeyCheck


def test_a_plain_request_is_answered(wire, image_request):
    status, answer = wire.infer("scorer", image_request)

    assert status == 200
    assert answer["model_name"] == "scorer"
    assert answer["model_version"] == "1"
    assert answer["outputs"][0]["shape"] == [1, 3]
    assert sum(answer["outputs"][0]["data"]) == pytest.approx(1)


def test_raw_tensors_go_in_and_out(wire, image_request):
    del image_request["inputs"][0]["data"]
    image_request["inputs"][0]["parameters"] = {"binary_data_size": 4}
    image_request["outputs"] = [{"name": "scores", "parameters": {"binary_data": True}}]
    text = json.dumps(image_request).encode()

    status, headers, body = wire.ask(
        "POST",
        "/v2/models/scorer/infer",
        text + b"\1\2\3\4",
        Inference_Header_Content_Length=str(len(text)),
    )

    assert status == 200
    scores = struct.unpack("<3f", body[int(headers["inference-header-content-length"]) :])
    assert sum(scores) == pytest.approx(1)


def test_the_prediction_id_leads_to_the_logged_row(wire, server, log_folder, image_request):
    _, answer = wire.infer("scorer", image_request)
    server.sync_log()

    place = parse_prediction_id(answer["parameters"]["prediction_id"])

    row = SegmentReader(log_folder / "scorer").row(place.row)
    assert row["prediction_id"] == str(place)
    assert row["image"].tolist() == [[1, 2], [3, 4]]
    assert row["scores"].tolist() == pytest.approx(answer["outputs"][0]["data"])


def test_a_model_without_batches_answers_too(wire, image_request):
    assert wire.infer("fixed", image_request)[0] == 200


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v2", 200),
        ("GET", "/v2/health/live", 200),
        ("GET", "/v2/health/ready", 200),
        ("GET", "/v2/models/scorer", 200),
        ("GET", "/v2/models/scorer/ready", 200),
        ("GET", "/v2/models/scorer/versions/1", 200),
        ("GET", "/v2/models/scorer/versions/1/ready", 200),
        ("POST", "/v2/repository/index", 200),
        ("GET", "/status", 200),
        ("GET", "/v2/models/absent", 404),
        ("GET", "/v2/models/scorer/versions/7", 404),
        ("GET", "/absent", 404),
        ("GET", "/v2/models/scorer/infer", 405),
        ("PUT", "/v2", 405),
    ],
)
def test_every_path_answers_with_json(wire, method, path, status):
    found, headers, body = wire.ask(method, path)

    assert found == status
    assert headers["content-type"] == "application/json"
    json.loads(body)


def test_metrics_are_counted_and_readable(wire, image_request):
    wire.infer("scorer", image_request)

    _, _, body = wire.ask("GET", "/metrics")

    families = {family.name: family for family in text_string_to_metric_families(body.decode())}
    rows = {sample.labels["model"]: sample.value for sample in families["shoal_rows"].samples}
    assert rows["scorer"] >= 1


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"data": [1, 2, 3, 300]}, "inputs.image.data[3]"),
        ({"data": [1, 2, 3]}, "inputs.image.data"),
        ({"datatype": "FP32"}, "inputs.image.datatype"),
        ({"shape": [1, 4]}, "inputs.image.shape"),
        ({"name": "picture"}, "inputs.picture"),
    ],
)
def test_a_wrong_tensor_is_a_400_that_names_the_field(wire, image_request, change, field):
    image_request["inputs"][0] |= change

    status, answer = wire.infer("scorer", image_request)

    assert status == 400
    assert answer["field"] == field
    assert answer["found"]
    assert answer["expected"]


@pytest.mark.parametrize("body", [b"", b"{", b"null", b"\xff" * 50, b"[" * 50_000])
def test_a_body_that_is_no_request_is_a_400(wire, body):
    assert wire.infer("scorer", body)[0] == 400


@pytest.mark.parametrize("length", ["-1", "x", "99999", "3"])
def test_a_wrong_binary_header_is_a_400(wire, image_request, length):
    assert wire.infer("scorer", image_request, Inference_Header_Content_Length=length)[0] == 400


def test_what_the_model_itself_refuses_is_a_422(wire):
    request = {"inputs": [{"name": "index", "datatype": "INT64", "shape": [1], "data": [99]}]}

    assert wire.infer("picker", request)[0] == 422


def test_an_output_that_json_cannot_carry_is_a_422(wire):
    request = {"inputs": [{"name": "index", "datatype": "INT64", "shape": [1], "data": [0]}]}

    status, answer = wire.infer("picker", request)

    assert (status, answer["field"]) == (422, "outputs.logarithm")


def test_the_connection_lives_on_after_refusals(wire, image_request):
    statuses = [wire.infer("scorer", request)[0] for request in (b"{", image_request, b"", image_request)]

    assert statuses == [400, 200, 400, 200]


def test_a_huge_body_is_a_413_before_it_is_sent(wire):
    wire.send(b"POST /v2/models/scorer/infer HTTP/1.1\r\nHost: h\r\nContent-Length: 99999999999\r\n\r\n")

    status, headers, _ = wire.receive()

    assert (status, headers["connection"]) == (413, "close")
    assert wire.is_closed()


@pytest.mark.parametrize("data", [b"\0\1\2\3garbage\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"hi\n"])
def test_garbage_on_the_socket_is_a_400_and_harms_nobody(connect, server, wire, image_request, data):
    garbage = connect(server.port)
    garbage.send(data)

    assert garbage.receive()[0] == 400
    assert garbage.is_closed()
    assert wire.infer("scorer", image_request)[0] == 200


def test_a_client_that_leaves_in_the_middle_harms_nobody(connect, server, wire, image_request):
    leaving = connect(server.port)
    leaving.send(b"POST /v2/models/scorer/infer HTTP/1.1\r\nContent-Length: 100\r\n\r\nhalf")
    leaving.socket.close()

    assert wire.infer("scorer", image_request)[0] == 200


def test_requests_in_a_row_are_answered_in_order(wire, image_request):
    bodies = [json.dumps(image_request | {"id": str(number)}).encode() for number in range(10)]

    wire.send(
        b"".join(
            b"POST /v2/models/scorer/infer HTTP/1.1\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
            for body in bodies
        )
    )

    assert [json.loads(wire.receive()[2])["id"] for _ in bodies] == [str(number) for number in range(10)]


def test_an_old_client_is_answered_and_closed(connect, server):
    old = connect(server.port)
    old.send(b"GET /v2 HTTP/1.0\r\n\r\n")

    assert old.receive()[0] == 200
    assert old.is_closed()


class Supervisor:
    """The front's context, with messages that wait and those that it reported."""

    def __init__(self):
        self.waiting, self.told, self.stopping = [], [], threading.Event()

    def receive_nowait(self):
        return self.waiting.pop(0) if self.waiting else None

    def report(self, message):
        self.told.append(read_from_front(message))


@pytest.fixture
def supervisor():
    return Supervisor()


@pytest.fixture
def front(supervisor):
    return Front(
        supervisor,
        key=KeyCheck(None),
        target_ms=10.0,
        most_batch_s=10.0,
        most_load_s=60.0,
        log_folder=None,
        limits=AdmissionLimits(most_wait_s=1.0),
        most_body_bytes=100,
        most_connections=1,
    )


def test_a_plan_that_was_overtaken_is_ignored(front, supervisor):
    supervisor.waiting = [encode_message(Plan(generation, {})) for generation in (2, 1)]

    front._on_supervisor()

    assert [told.generation for told in supervisor.told] == [2]


def test_another_order_of_the_shares_is_told(front, supervisor):
    for shares in ({"1": 0.5, "2": 0.5}, {"2": 0.5, "1": 0.5}):
        front._models.plan = {"m": ModelPlan({}, shares)}
        front._models.shares = {"m": Shares.of(shares)}
        front._advance()

    assert [list(told.shares["m"]) for told in supervisor.told] == [["1", "2"], ["2", "1"]]


def test_a_connection_beyond_the_limit_is_turned_away(front):
    taken = front._connection()
    front._desk.opened(taken)

    assert isinstance(taken, Connection)
    assert isinstance(front._connection(), TurnedAway)

    front._desk.closed(taken)
    assert isinstance(front._connection(), Connection)


def test_a_wish_goes_to_the_supervisor_and_its_answer_comes_back(front, supervisor):
    ended = []
    front._desk.make_wish("unload", "m", lambda: ended.append(200), lambda refused: ended.append(refused.status))
    (wish,) = supervisor.told
    supervisor.waiting = [encode_message(WishDone(wish.id, 404, "there is no m", "look"))]

    front._on_supervisor()

    assert (wish.action, wish.model) == ("unload", "m")
    assert ended == [404]


def test_the_default_comes_with_the_plan(front, supervisor):
    supervisor.waiting = [encode_message(Plan(1, {}, "unloaded"))]

    front._on_supervisor()

    assert front._models.default == "unloaded"
