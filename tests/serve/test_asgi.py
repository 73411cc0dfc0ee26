"""shoal inside a FastAPI service under uvicorn: it answers as its own server does, and leaves nothing behind."""

import asyncio
import base64
import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest
import uvicorn
from fastapi import FastAPI
from PIL import Image

from shoal.base import SegmentReader, parse_prediction_id
from shoal.serve import asgi

CORPUS = Path(__file__).parent / "bad_requests" / "requests.jsonl"
# What came to HTTP's own rules never reaches an application: the host answers it, in its own words.
# Wishes to load and unload are left out: their answers tell what the server was started with, or change its models.
REFUSED_BY_US = [
    entry
    for entry in map(json.loads, CORPUS.read_text().splitlines())
    if "/v2/repository/models/" not in entry["send"][0][0]
    and (not entry["closes"] or entry["name"] in ("a body announced as 1 TB", "a header of 100 kB", "10,000 headers"))
]
IMAGE = {"name": "image", "datatype": "UINT8", "shape": [1, 2, 2], "data": [1, 2, 3, 4]}
PLAIN = b'{"image": [[1, 2], [3, 4]]}'
# New for every answer.
FRESH = re.compile(rb'"(prediction_id|id)":"[^"]*"')


@contextmanager
def hosted(app, **settings):
    """The application under uvicorn in a thread; gives the port."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", **settings))
    thread = threading.Thread(target=server.run)
    thread.start()
    pause = threading.Event()
    while not server.started and thread.is_alive():
        pause.wait(0.01)
    assert server.started
    try:
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        thread.join()


def service(models, *, lifespan=None):
    """A service with a route of its own beside the models."""
    app = FastAPI(lifespan=lifespan)

    @app.get("/hello")
    async def hello():
        return {"hello": "world"}

    app.mount("/models", models)
    return app


@pytest.fixture(scope="module")
def mounted_log(tmp_path_factory):
    return tmp_path_factory.mktemp("mounted")


@pytest.fixture(scope="module")
def mounted(scorer, picker, adder, fixed_scorer, mounted_log):
    """(port, application) of a service with the same models as the server of all tests."""
    found = {"scorer": scorer, "picker": picker, "adder": adder, "fixed": fixed_scorer}
    models = asgi(found, replicas=1, log_folder=mounted_log)
    with hosted(service(models, lifespan=models.lifespan)) as port:
        yield port, models


@pytest.fixture
def inside(connect, mounted):
    return connect(mounted[0])


def picture():
    buffer = io.BytesIO()
    Image.fromarray(np.array([[1, 2], [3, 4]], np.uint8)).save(buffer, "png")
    return buffer.getvalue()


def form(content):
    return (
        b'--here\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\nContent-Type: image/png\r\n\r\n'
        + content
        + b"\r\n--here--\r\n"
    )


def binary():
    wished = {"name": "scores", "parameters": {"binary_data": True}}
    raw = {**IMAGE, "parameters": {"binary_data_size": 4}}
    del raw["data"]
    text = json.dumps({"inputs": [raw], "outputs": [wished]}).encode()
    return text + b"\1\2\3\4", {"Inference-Header-Content-Length": str(len(text))}


GOOD = {
    "json": ("POST", "/v2/models/scorer/infer", json.dumps({"inputs": [IMAGE]}).encode(), {}),
    "json with an id and a version": (
        "POST", "/v2/models/scorer/versions/1/infer", json.dumps({"id": "mine", "inputs": [IMAGE]}).encode(), {},
    ),
    "binary": ("POST", "/v2/models/scorer/infer", *binary()),
    "plain": ("POST", "/predict", PLAIN, {"Content-Type": "application/json"}),
    "rows": (
        "POST", "/v2/models/scorer/predict", b'{"rows": [%s, %s]}' % (PLAIN, PLAIN),
        {"Content-Type": "application/json"},
    ),
    "several inputs": (
        "POST", "/v2/models/adder/predict", b'{"values": [1, 2], "flags": true}', {"Content-Type": "application/json"},
    ),
    "a model without batches": ("POST", "/v2/models/fixed/infer", json.dumps({"inputs": [IMAGE]}).encode(), {}),
    "a picture": ("POST", "/v2/models/scorer/predict", picture(), {"Content-Type": "image/png"}),
    "a form": ("POST", "/predict", form(picture()), {"Content-Type": "multipart/form-data; boundary=here"}),
    "a priority": ("POST", "/predict", PLAIN, {"X-Priority": "1", "X-Timeout-Us": "5000000"}),
}  # fmt: skip
TOLD = [
    ("GET", "/v2"),
    ("GET", "/v2/health/live"),
    ("GET", "/v2/health/ready"),
    ("GET", "/v2/models/scorer"),
    ("GET", "/v2/models/scorer/ready"),
    ("GET", "/v2/models/scorer/versions/1"),
    ("GET", "/v2/models/adder/config"),
    ("HEAD", "/v2"),
    ("PUT", "/v2"),
    ("GET", "/v2/models/scorer/infer"),
    ("GET", "/v2/models/absent"),
    ("GET", "/v2/models/a%2Fb"),
    ("GET", "/v2/models/scorer%20"),
    ("GET", "/absent?really=yes"),
]


def ask(wire, method, path, body=b"", headers=None):
    """Status, headers without those of the host, body; HEAD's has none."""
    lines = [f"{method} {path} HTTP/1.1", "Host: here", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    wire.send("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
    return heard(wire, has_body=method != "HEAD")


def heard(wire, *, has_body=True):
    while b"\r\n\r\n" not in wire.rest:
        wire.rest += wire._more()
    head, _, wire.rest = wire.rest.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
    length = int(headers["content-length"]) if has_body else 0
    while len(wire.rest) < length:
        wire.rest += wire._more()
    body, wire.rest = wire.rest[:length], wire.rest[length:]
    return int(first.split()[1]), {name: headers[name] for name in headers.keys() - {"date", "server"}}, body


@pytest.mark.parametrize("kind", GOOD)
def test_a_prediction_is_answered_with_the_bytes_of_the_own_server(wire, inside, kind):
    method, path, body, headers = GOOD[kind]

    own = ask(wire, method, path, body, headers)
    ours = ask(inside, method, f"/models{path}", body, headers)

    assert own[0] == 200
    assert ours[0] == 200
    # The ids are new each time, and with them some lengths.
    assert FRESH.sub(b"", ours[2]) == FRESH.sub(b"", own[2])
    varying = {"content-length", "inference-header-content-length"}
    assert ours[1].keys() == own[1].keys()
    assert all(ours[1][name] == own[1][name] for name in ours[1].keys() - varying)


@pytest.mark.parametrize(("method", "path"), TOLD)
def test_what_is_told_is_told_with_the_bytes_of_the_own_server(wire, inside, method, path):
    assert ask(inside, method, f"/models{path}") == ask(wire, method, path)


def test_every_bad_request_is_refused_with_the_bytes_of_the_own_server(server, mounted, connect):
    assert len(REFUSED_BY_US) > 300
    different = []
    for entry in REFUSED_BY_US:
        data = b"".join(text.encode("latin-1") * times for text, times in entry["send"])
        method, _, rest = data.partition(b" /")
        wires = connect(server.port), connect(mounted[0])
        wires[0].send(data)
        wires[1].send(method + b" /models/" + rest)
        own, ours = (heard(wire) for wire in wires)
        for wire in wires:
            wire.socket.close()
        if entry["status"] == 431:
            # Where the count stopped depends on how the bytes came.
            own, ours = ((status, headers.get("connection")) for status, headers, _ in (own, ours))
        if own != ours:
            different.append((entry["name"], own, ours))

    assert different == []


def test_the_index_is_that_of_the_own_server(wire, inside):
    path, body = "/v2/repository/index", b'{"ready": true}'

    assert ask(inside, "POST", f"/models{path}", body) == ask(wire, "POST", path, body)


def test_the_metrics_have_the_names_of_the_own_servers(wire, inside):
    own, ours = ask(wire, "GET", "/metrics"), ask(inside, "GET", "/models/metrics")

    assert (ours[0], ours[1]["content-type"]) == (200, own[1]["content-type"])
    names = re.compile(rb"^# TYPE (\S+)", re.MULTILINE)
    assert set(names.findall(ours[2])) == set(names.findall(own[2]))


def test_the_status_has_the_form_of_the_own_servers(wire, inside):
    own, ours = ask(wire, "GET", "/status"), ask(inside, "GET", "/models/status")

    assert (ours[0], ours[1]["content-type"]) == (200, own[1]["content-type"])
    # Problems and sizes of batches are those that other tests made.
    found, expected = (json.loads(each[2]) for each in (ours, own))
    assert found.keys() == expected.keys()
    assert found["queue"].keys() == expected["queue"].keys()
    assert found["replicas"][0].keys() == expected["replicas"][0].keys()
    assert found["models"].keys() == expected["models"].keys()


def test_the_pages_name_the_paths_as_a_client_must_write_them(wire, inside):
    own, ours = ask(wire, "GET", "/docs"), ask(inside, "GET", "/models/docs")
    documents = [
        json.loads(ask(*each)[2]) for each in [(wire, "GET", "/openapi.json"), (inside, "GET", "/models/openapi.json")]
    ]

    assert ours[2] == own[2].replace(b"http://here/v2", b"http://here/models/v2")
    assert ours[1]["content-security-policy"] == own[1]["content-security-policy"]
    assert documents[1].pop("servers") == [{"url": "/models"}]
    documents[0].pop("servers")
    assert documents[1] == documents[0]


def test_the_hosts_own_routes_stay_its_own(inside):
    assert json.loads(ask(inside, "GET", "/hello")[2]) == {"hello": "world"}
    assert ask(inside, "GET", "/v2")[0] == 404


def test_a_body_in_pieces_without_a_length_is_put_together(mounted):
    pieces = [PLAIN[:5], PLAIN[5:6], PLAIN[6:]]

    answer = httpx.post(
        f"http://127.0.0.1:{mounted[0]}/models/predict",
        content=iter(pieces),
        headers={"Content-Type": "application/json"},
    )

    assert answer.status_code == 200, answer.text
    assert answer.json()["model"] == "scorer"


def test_a_body_without_a_length_that_grows_too_large_is_a_413(inside):
    inside.send(b"POST /models/predict HTTP/1.1\r\nHost: here\r\nTransfer-Encoding: chunked\r\n\r\n")
    piece = b"100000\r\n" + bytes(1 << 20) + b"\r\n"
    for _ in range(16):
        inside.send(piece)
    # One more byte than may come.
    inside.send(b"1\r\nx\r\n")

    status, headers, _ = heard(inside)

    assert (status, headers["connection"]) == (413, "close")


def test_a_client_that_leaves_in_the_middle_harms_nobody(connect, mounted, inside):
    leaving = connect(mounted[0])
    leaving.send(b"POST /models/predict HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\nhalf")
    leaving.socket.close()

    assert ask(inside, *["POST", "/models/predict", PLAIN, {"Content-Type": "application/json"}])[0] == 200


def test_a_websocket_is_refused(inside):
    key = base64.b64encode(bytes(16)).decode()

    found = ask(
        inside,
        "GET",
        "/models/v2",
        headers={
            "Connection": "Upgrade",
            "Upgrade": "websocket",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": key,
        },
    )

    # Without a library for websockets, the host answers as if nobody had asked for one.
    assert found[0] in (200, 403)


def test_the_prediction_id_leads_to_the_logged_row(mounted, inside, mounted_log):
    answer = json.loads(ask(inside, "POST", "/models/predict", PLAIN, {"Content-Type": "application/json"})[2])
    models = mounted[1]
    asyncio.run_coroutine_threadsafe(models.sync_log(), models._stay.loop).result(30)

    row = SegmentReader(mounted_log / "scorer").row(parse_prediction_id(answer["prediction_id"]).row)

    assert row["prediction_id"] == answer["prediction_id"]
    assert row["image"].tolist() == [[1, 2], [3, 4]]


class Traffic:
    """Clients that ask a mounted model without a pause."""

    def __init__(self, port, num_clients=4):
        self._url = f"http://127.0.0.1:{port}/models/predict"
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(num_clients)]
        self._answered = threading.Condition()
        self.num_answers, self.failures = 0, []

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        self.flow()
        return self

    def __exit__(self, *_):
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def flow(self, num=50):
        with self._answered:
            goal = self.num_answers + num
            assert self._answered.wait_for(lambda: self.num_answers >= goal or self.failures, 60)

    def _ask(self):
        with httpx.Client(timeout=30) as client:
            while not self._stopping.is_set():
                try:
                    answer = client.post(self._url, content=PLAIN, headers={"Content-Type": "application/json"})
                    failure = None if answer.status_code == 200 else answer.text
                except Exception as error:
                    failure = error
                with self._answered:
                    self.num_answers += failure is None
                    self.failures += [] if failure is None else [failure]
                    self._answered.notify_all()


@pytest.mark.slow
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_killed_replicas_lose_no_request_and_come_back(scorer, eventually, loop):
    models = asgi(scorer, replicas=2)
    with hosted(service(models, lifespan=models.lifespan), loop=loop) as port, Traffic(port) as traffic:
        before = models.pids()
        for pid in before:
            os.kill(pid, signal.SIGKILL)
            traffic.flow()
        eventually(lambda: len(set(models.pids()) - set(before)) == 2)
        traffic.flow()

    assert traffic.failures == []


@pytest.mark.slow
def test_a_swap_loses_no_request(scorer, other_scorer):
    models = asgi(scorer, replicas=1)

    async def swap():
        await models.swap("scorer", {"2": other_scorer})
        await models.wait_for("scorer", 2)

    with hosted(service(models, lifespan=models.lifespan)) as port, Traffic(port) as traffic:
        asyncio.run_coroutine_threadsafe(swap(), models._stay.loop).result(60)
        traffic.flow()
        version = httpx.post(f"http://127.0.0.1:{port}/models/predict", content=PLAIN).json()["version"]

    assert traffic.failures == []
    assert version == "2"


@pytest.mark.slow
def test_without_a_lifespan_it_starts_at_the_first_request_and_ends_with_the_loop(scorer, eventually):
    models = asgi(scorer, replicas=1)

    with hosted(service(models)) as port:
        assert models._stay is None
        answers = [httpx.post(f"http://127.0.0.1:{port}/models/predict", content=PLAIN) for _ in range(2)]
        replicas = models.pids()

    assert [answer.status_code for answer in answers] == [200, 200]
    assert len(replicas) == 1
    # uvicorn's loop has waited for it.
    assert not any(map(psutil.pid_exists, replicas))


@pytest.mark.slow
def test_alone_it_lives_by_the_lifespan_of_the_server(scorer, connect):
    models = asgi(scorer, replicas=1)

    with hosted(models) as port:
        replicas = models.pids()
        status = ask(connect(port), "POST", "/predict", PLAIN)[0]

    assert status == 200
    assert not any(map(psutil.pid_exists, replicas))


@pytest.mark.slow
def test_a_model_that_cannot_be_loaded_keeps_the_host_from_starting(tmp_path):
    (tmp_path / "broken.onnx").write_bytes(b"no model")
    models = asgi(tmp_path / "broken.onnx", replicas=1)
    server = uvicorn.Server(uvicorn.Config(service(models, lifespan=models.lifespan), port=0, log_level="critical"))

    with suppress(SystemExit):
        server.run()

    assert not server.started


@pytest.mark.slow
def test_sleeping_replicas_are_woken_by_a_request(scorer, eventually):
    models = asgi(scorer, replicas=(0, 1), sleep_after_s=0.2)

    with hosted(service(models, lifespan=models.lifespan)) as port:
        eventually(lambda: models.pids() == [])
        answer = httpx.post(f"http://127.0.0.1:{port}/models/predict", content=PLAIN, timeout=30)

    assert answer.status_code == 200


HOST = """
import sys
import shoal
from fastapi import FastAPI

models = shoal.serve.asgi({model!r}, replicas=2)
app = FastAPI(lifespan=models.lifespan)
app.mount("/models", models)
"""


@contextmanager
def host_process(folder, model, *arguments):
    """uvicorn's own command, as a user would run it; gives the process and its port."""
    (folder / "hosting.py").write_text(HOST.format(model=str(model)))
    command = [sys.executable, "-m", "uvicorn", "hosting:app", "--port", "0", *arguments]
    process = subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True)
    try:
        port = None
        while port is None:
            line = process.stderr.readline()
            assert line, "the host ended"
            found = re.search(r"running on http://[\d.]+:(\d+)", line)
            port = found and int(found[1])
        yield process, port
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


def replicas_of(pid):
    return [child for child in psutil.Process(pid).children(recursive=True) if "replica" in child.cmdline()]


@pytest.mark.slow
def test_a_host_that_is_killed_leaves_no_process(scorer, tmp_path):
    with host_process(tmp_path, scorer) as (process, port):
        assert httpx.post(f"http://127.0.0.1:{port}/models/predict", content=PLAIN).status_code == 200
        replicas = replicas_of(process.pid)
        assert len(replicas) == 2

        process.kill()

        assert psutil.wait_procs(replicas, timeout=10)[1] == []


@pytest.mark.slow
def test_a_host_that_is_told_to_stop_under_load_answers_what_it_took_and_leaves_nothing(scorer, tmp_path):
    with host_process(tmp_path, scorer) as (process, port):
        replicas = replicas_of(process.pid)
        with Traffic(port) as traffic:
            process.terminate()
            process.wait(30)

    # Connections that came later were refused by the system; each request that was taken got its answer.
    assert all(isinstance(failure, httpx.TransportError) for failure in traffic.failures), traffic.failures[:3]
    assert psutil.wait_procs(replicas, timeout=10)[1] == []


@pytest.mark.slow
def test_each_worker_of_a_host_has_replicas_of_its_own(scorer, tmp_path, eventually):
    with host_process(tmp_path, scorer, "--workers", "2") as (process, port):
        eventually(lambda: len(replicas_of(process.pid)) == 4)
        replicas = replicas_of(process.pid)
        # uvicorn names its port before its workers listen on it.
        transport = httpx.HTTPTransport(retries=10)
        with httpx.Client(transport=transport, timeout=30) as client:
            statuses = {client.post(f"http://127.0.0.1:{port}/models/predict", content=PLAIN).status_code for _ in "12"}
        process.terminate()
        process.wait(30)

    assert statuses == {200}
    assert psutil.wait_procs(replicas, timeout=10)[1] == []


def test_it_is_there_without_torch_and_without_a_framework():
    script = "import sys, shoal; shoal.serve.asgi; print(*sys.modules)"

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert not loaded & {"torch", "fastapi", "starlette", "uvicorn", "onnx", "onnxruntime"}
