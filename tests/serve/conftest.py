"""Tiny ONNX models, a server over one of them, and a bare socket to send it anything."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from shoal.serve import Server, start
from shoal.serve.batching.admission import AdmissionLimits
from shoal.serve.batching.dispatch import Dispatcher
from shoal.serve.desk.connection import Exchange
from shoal.serve.desk.desk import Desk
from shoal.serve.links.channel import Done, Key, Loaded
from shoal.serve.links.messages import ModelPlan
from shoal.serve.records.journal import Journal
from shoal.serve.records.metrics import Metrics
from shoal.serve.records.passage import Passage, Ran
from shoal.serve.versions.models import Models
from shoal.serve.versions.router import Shares
from shoal.serve.wire.auth import KeyCheck
from shoal.serve.wire.http import Head
from shoal.serve.wire.interface import Interface, TensorField


def _save(path: Path, nodes, inputs, outputs, constants=()) -> Path:
    graph = helper.make_graph(
        nodes,
        path.stem,
        [helper.make_tensor_value_info(*each) for each in inputs],
        [helper.make_tensor_value_info(*each) for each in outputs],
        [numpy_helper.from_array(value, name) for name, value in constants],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    onnx.save(model, path)
    return path


def _scorer(path: Path, *, tilt: float, rows: int | str = "n") -> Path:
    """Image uint8 [rows, 2, 2] to scores float32 [rows, 3]; the class that `tilt` points at wins."""
    weights = np.linspace(-tilt, tilt, 12, dtype=np.float32).reshape(4, 3)
    return _save(
        path,
        [
            helper.make_node("Cast", ["image"], ["floats"], to=TensorProto.FLOAT),
            helper.make_node("Flatten", ["floats"], ["flat"]),
            helper.make_node("MatMul", ["flat", "weights"], ["logits"]),
            helper.make_node("Softmax", ["logits"], ["scores"], axis=-1),
        ],
        [("image", TensorProto.UINT8, [rows, 2, 2])],
        [("scores", TensorProto.FLOAT, [rows, 3])],
        [("weights", weights)],
    )


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="session")
def scorer(model_folder) -> Path:
    return _scorer(model_folder / "scorer.onnx", tilt=0.01)


@pytest.fixture(scope="session")
def other_scorer(model_folder) -> Path:
    """Same inputs and outputs, other scores."""
    return _scorer(model_folder / "other.onnx", tilt=-0.01)


@pytest.fixture(scope="session")
def contract_models(scorer, other_scorer, model_folder) -> tuple[Path, Path, Path]:
    """What `ServingContract` needs: two models that take and give the same, and a file that is none."""
    broken = model_folder / "broken.onnx"
    broken.write_bytes(scorer.read_bytes()[:-10])
    return scorer, other_scorer, broken


@pytest.fixture(scope="session")
def fixed_scorer(model_folder) -> Path:
    """Takes exactly one row, as a model exported without a dynamic batch does."""
    return _scorer(model_folder / "fixed.onnx", tilt=0.01, rows=1)


@pytest.fixture(scope="session")
def picker(model_folder) -> Path:
    """Picks table[index]: an index beyond the table makes ONNX Runtime raise; 0 picks NaN's source, a zero."""
    return _save(
        model_folder / "picker.onnx",
        [
            helper.make_node("Gather", ["table", "index"], ["picked"]),
            helper.make_node("Log", ["picked"], ["logarithm"]),
        ],
        [("index", TensorProto.INT64, ["n"])],
        [("logarithm", TensorProto.FLOAT, ["n"])],
        [("table", np.array([0.0, 1.0, 2.0], np.float32))],
    )


@pytest.fixture(scope="session")
def adder(model_folder) -> Path:
    """Two inputs of different families: values float32 [n, 2] and flags bool [n] to total float32 [n]."""
    return _save(
        model_folder / "adder.onnx",
        [
            helper.make_node("ReduceSum", ["values", "axes"], ["sums"], keepdims=0),
            helper.make_node("Cast", ["flags"], ["ones"], to=TensorProto.FLOAT),
            helper.make_node("Add", ["sums", "ones"], ["total"]),
        ],
        [("values", TensorProto.FLOAT, ["n", 2]), ("flags", TensorProto.BOOL, ["n"])],
        [("total", TensorProto.FLOAT, ["n"])],
        [("axes", np.array([1], np.int64))],
    )


@pytest.fixture
def save_model(tmp_path) -> Callable[..., Path]:
    """Saves a model of (operator, inputs, outputs, attributes) under a name."""

    def save_model(name, operators, inputs, outputs, constants=()) -> Path:
        nodes = [helper.make_node(kind, takes, gives, **given) for kind, takes, gives, given in operators]
        return _save(tmp_path / f"{name}.onnx", nodes, inputs, outputs, constants)

    return save_model


@pytest.fixture(scope="session")
def interface() -> Interface:
    """What the scorer takes and gives."""
    return Interface(
        (TensorField("image", "UINT8", (None, 2, 2)),), (TensorField("scores", "FP32", (None, 3)),), batched=True
    )


@pytest.fixture(scope="session")
def log_folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("predictions")


@pytest.fixture(scope="session")
def server(scorer, picker, adder, fixed_scorer, log_folder) -> Iterator[Server]:
    """One server for all tests that only ask: four models, a log."""
    with start(scorer, port=0, replicas=1, log_folder=log_folder) as server:
        for path in (picker, adder, fixed_scorer):
            server.swap(path.stem, {"1": path})
            server.wait_for(path.stem, 1)
        yield server


class Wire:
    """A bare connection."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=20)
        self.rest = b""

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def receive(self) -> tuple[int, dict[str, str], bytes]:
        """Status, headers by lower-case name, body."""
        while b"\r\n\r\n" not in self.rest:
            self.rest += self._more()
        head, _, self.rest = self.rest.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        length = int(headers.get("content-length", 0))
        while len(self.rest) < length:
            self.rest += self._more()
        body, self.rest = self.rest[:length], self.rest[length:]
        return int(first.split()[1]), headers, body

    def is_closed(self) -> bool:
        return self.rest == b"" and self.socket.recv(1) == b""

    def ask(self, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, dict[str, str], bytes]:
        lines = [f"{method} {path} HTTP/1.1", "Host: here", f"Content-Length: {len(body)}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        self.send("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
        return self.receive()

    def infer(self, model: str, request, **headers: str) -> tuple[int, dict]:
        body = request if isinstance(request, bytes) else json.dumps(request).encode()
        status, _, answer = self.ask("POST", f"/v2/models/{model}/infer", body, **headers)
        return status, json.loads(answer)

    def _more(self) -> bytes:
        data = self.socket.recv(65536)
        assert data, "the server closed the connection"
        return data


@pytest.fixture
def wire(server) -> Iterator[Wire]:
    wire = Wire(server.port)
    yield wire
    wire.socket.close()


@pytest.fixture
def connect() -> Iterator[Callable[[int], Wire]]:
    """Opens bare connections to any port, and closes them afterwards."""
    wires: list[Wire] = []

    def connect(port: int) -> Wire:
        wires.append(Wire(port))
        return wires[-1]

    yield connect
    for wire in wires:
        wire.socket.close()


@pytest.fixture
def image_request() -> dict:
    """A plain request for the scorer."""
    return {"inputs": [{"name": "image", "datatype": "UINT8", "shape": [1, 2, 2], "data": [1, 2, 3, 4]}]}


@pytest.fixture
def eventually() -> Callable[[Callable[[], object]], None]:
    """Waits for something that another process does, at most half a minute."""

    def eventually(condition: Callable[[], object]) -> None:
        pause = threading.Event()
        deadline_s = time.monotonic() + 30
        while not condition():
            assert time.monotonic() < deadline_s, "it did not happen"
            pause.wait(0.01)

    return eventually


class FakeConnection:
    """Where answers go that no client waits for."""

    buffered_bytes = 0

    def flush(self) -> None: ...


class FakeLink:
    """A replica that runs a batch when the test says so; every score is the sum of its row's pixels."""

    def __init__(self, number: int, loaded: set[Key]) -> None:
        self.number = self.rank = self.pid = number
        self.host = "127.0.0.1"
        self.loaded, self.asked, self.failed = set(loaded), set(), set()
        self.batch = None
        self.is_killed = False
        self.num_looks = 0
        self._outputs = []

    @property
    def is_idle(self) -> bool:
        return self.batch is None

    def run(self, batch) -> None:
        self.batch = batch

    def outputs(self, block, slots):
        return self._outputs

    def close(self) -> None: ...

    def look(self) -> None:
        self.num_looks += 1

    def kill(self) -> None:
        self.is_killed = True

    def compute(self) -> Done:
        """The frame that tells of the batch it has."""
        (images,) = (np.concatenate(parts) for parts in self.batch.inputs())
        sums = images.reshape(len(images), -1).sum(axis=1, dtype=np.float32)
        self._outputs = [np.repeat(sums[:, None], 3, axis=1)]
        return Done(self.batch.number, "", [], 0.001)


class House:
    """The parts of a front, joined as the front joins them, without processes and sockets."""

    def __init__(self, interface: Interface, *, key: str | None = None, log_folder: Path | None = None) -> None:
        self.models, self.metrics = Models(), Metrics()
        self.journal = Journal(log_folder, self.metrics)
        self.dispatcher = Dispatcher(self.models, self.journal, self.metrics, target_ms=10.0, most_batch_s=10.0)
        self.desk = Desk(
            self.models,
            self.dispatcher,
            self.journal,
            self.metrics,
            key=KeyCheck(key),
            limits=AdmissionLimits(most_wait_s=1.0, most_requests=20, most_bytes=10_000),
        )
        self.models.plan = {"m": ModelPlan({"1": "/1"}, {"1": 1.0})}
        self.models.shares = {"m": Shares.of({"1": 1.0})}
        self.served = self.models.add(Loaded("m", "1", "/1", interface, [(1, 0.001), (2, 0.002)], "classification"))
        self.journal.open(self.served)

    def link(self, number: int) -> FakeLink:
        """One more replica that has the model."""
        link = self.dispatcher.links[number] = FakeLink(number, {Key("m", "1")})
        return link

    def ask(self, request: object, *, path: str = "/v2/models/m/infer", method: str = "POST") -> Exchange:
        """Send a request through the desk; its answer appears in the exchange. RefusedError is for the caller."""
        body = request if isinstance(request, bytes) else json.dumps(request).encode()
        head = Head(method, path, {b"content-length": b"%d" % len(body)}, keeps_alive=True, is_old=False)
        exchange = Exchange(FakeConnection(), head, time.monotonic())
        self.desk.admit(head)
        self.desk.take(exchange, body)
        return exchange


@pytest.fixture
def house(interface) -> House:
    return House(interface)


@pytest.fixture
def build_house(interface) -> Callable[..., House]:
    """Makes houses with a key or a log."""
    return lambda **arguments: House(interface, **arguments)


@pytest.fixture
def make_passage() -> Callable[..., Passage]:
    """Makes answered requests that differ from an ordinary one as the test says."""

    def make_passage(**changed) -> Passage:
        ran = Ran(
            model="fashion",
            version="3",
            request_id="customer 7",
            prediction_id="fashion@3.x7k2p9.12",
            num_rows=2,
            queued_s=100.001,
            taken_s=100.003,
            done_s=100.009,
            model_s=0.005,
            batch_rows=8,
            replica=1,
        )
        passage = Passage(
            protocol="http",
            method="POST",
            path="/v2/models/fashion/infer",
            status=200,
            client="10.0.0.7",
            num_bytes_in=300,
            num_bytes_out=120,
            started_s=100.0,
            answered_s=100.010,
            time_s=1_760_000_000.25,
            ran=ran,
        )
        return replace(passage, **changed)

    return make_passage
