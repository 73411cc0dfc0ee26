import json
import signal
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import numpy as np
import pytest

from shoal.base import SegmentReader
from shoal.serve import Client

TOLD = {
    "batches": {"count": 4, "mean_rows": 2.5, "ended_by": {"nothing_waiting": 3, "target": 1}},
    "time_ms": {"reading": 0.1, "queue": 0.2, "model": 0.3, "writing": 0.4, "whole": 1.2},
    "cache": {"hits": 1, "misses": 3, "hit_rate": 0.25},
}
STATUS = {
    "ready": True,
    "models": {"clouds": {"shares": {"1": 0.75, "2": 0.25}, "versions": {"1": TOLD}}},
    "problems": [],
    "replicas": [{"rank": 0, "pid": 71, "loaded": ["clouds@1", "clouds@2"], "running_rows": 0}],
    "queue": {"requests": 0, "rows": 3, "predicted_wait_ms": 1.5},
}


@pytest.fixture
def answering():
    """A server that gives one answer to everything, and keeps what it was asked."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        code, body = 200, json.dumps(STATUS).encode()

        def do_GET(self):
            asked.append((self.path, self.headers["X-API-Key"]))
            self.send_response(self.code)
            self.end_headers()
            self.wfile.write(self.body)

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        Handler.url, Handler.asked = f"http://127.0.0.1:{server.server_port}", asked
        yield Handler
        server.shutdown()
        thread.join()


@pytest.fixture
def start(tmp_path):
    """Start `shoal serve run` as its own process, and return it with what it printed once it answered."""
    started = []

    def start(*arguments):
        code = "from shoal.cli import main; main()"
        command = [sys.executable, "-c", code, "serve", "run", *map(str, arguments), "--port", "0", "--json"]
        process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True)
        started.append(process)
        text = ""
        for line in process.stdout:
            text += line
            if line == "}\n":
                break
        return process, json.loads(text)

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.slow
def test_serves_a_registered_model_until_it_is_told_to_stop(shoal, start, registered, store, rows):
    process, told = start("clouds@1", "--replicas", 1)

    with Client(told["url"]) as client:
        found = client.infer("clouds", {"x": rows["x"][:4]})
    shown = shoal("serve", "status", "--url", told["url"])
    process.send_signal(signal.SIGTERM)

    assert process.wait(30) == 0
    np.testing.assert_array_equal(found.outputs["scores"].argmax(axis=1), rows["label"][:4])
    assert told["model"] == "clouds"
    assert told["log"] == str(store.home / "predictions")
    assert "model    clouds@1  100% of the traffic" in shown.out
    assert f"pid {told['replicas'][0]}" in shown.out
    assert SegmentReader(store.home / "predictions" / "clouds").num_rows == 4


@pytest.mark.slow
def test_a_key_keeps_strangers_out(shoal, start, packaged, monkeypatch):
    monkeypatch.setenv("SHOAL_SECRET_API_KEY", "sesame")
    process, told = start(packaged.path, "--replicas", 1)

    known = json.loads(shoal("serve", "status", "--url", told["url"], "--json").out)
    monkeypatch.delenv("SHOAL_SECRET_API_KEY")
    unknown = shoal("serve", "status", "--url", told["url"])
    process.send_signal(signal.SIGINT)

    assert process.wait(30) == 0
    assert known["ready"] is True
    assert unknown.code == 1
    assert "\nnext   " in unknown.err


def test_a_missing_file_fails_with_the_next_step(shoal):
    done = shoal("serve", "run", "nowhere.onnx")

    assert done.code == 1
    assert "nowhere.onnx" in done.err
    assert "\nnext   check the path" in done.err


def test_an_unknown_model_fails_with_the_next_step(shoal, store):
    done = shoal("serve", "run", "cluods@production")

    assert done.code == 1
    assert "cluods" in done.err


@pytest.mark.parametrize("replicas", ["0", "2:1", "0:0", "1:", "-1:2", "many"])
def test_no_replicas_is_wrong_usage(shoal, replicas):
    assert shoal("serve", "run", "model.onnx", "--replicas", replicas).code == 2


@pytest.mark.parametrize(("text", "replicas"), [("3", 3), ("0:4", (0, 4))])
def test_replicas_and_fronts_are_handed_on(shoal, monkeypatch, text, replicas):
    given = {}
    monkeypatch.setattr("shoal.serve.run", lambda model, **named: given.update(named))

    assert shoal("serve", "run", "model.onnx", "--replicas", text, "--fronts", "2").code == 0

    assert (given["replicas"], given["fronts"]) == (replicas, 2)


@pytest.mark.parametrize(
    ("options", "runtime"), [((), "local"), (("--runtime", "ray://head:10001"), "ray://head:10001")]
)
def test_the_runtime_of_replicas_is_handed_on(shoal, monkeypatch, options, runtime):
    given = {}
    monkeypatch.setattr("shoal.serve.run", lambda model, **named: given.update(named))

    assert shoal("serve", "run", "model.onnx", *options).code == 0

    assert given["runtime"] == runtime


def test_status_shows_replicas_on_other_machines(shoal, answering):
    replica = {**STATUS["replicas"][0], "host": "10.0.0.7"}
    answering.body = json.dumps({**STATUS, "replicas": [replica]}).encode()

    done = shoal("serve", "status", "--url", answering.url)

    assert "replica  0  pid 71 on 10.0.0.7  clouds@1, clouds@2" in done.out.splitlines()


def test_status_shows_shares_processes_and_queue(shoal, answering):
    done = shoal("serve", "status", "--url", answering.url)

    assert done.out.splitlines() == [
        "ready    True",
        "model    clouds@1  75% of the traffic",
        "model    clouds@2  25% of the traffic",
        "replica  0  pid 71  clouds@1, clouds@2",
        (
            "batches  clouds@1  4 of 2.5 rows (nothing waiting 3, target 1); ms: reading 0.1, queue 0.2, "
            "model 0.3 a batch, writing 0.4, whole 1.2; 25% from the cache"
        ),
        "queue    3 rows, wait 1.5 ms",
    ]


def test_status_as_json_is_what_the_server_says(shoal, answering):
    assert json.loads(shoal("serve", "status", "--url", answering.url, "--json").out) == STATUS


def test_status_carries_the_key(shoal, answering, monkeypatch):
    monkeypatch.setenv("SHOAL_SECRET_API_KEY", "sesame")

    shoal("serve", "status", "--url", answering.url)

    assert answering.asked == [("/status", "sesame")]


def test_a_refusal_is_passed_on(shoal, answering):
    answering.code, answering.body = 401, b'{"error": "no key", "next": "send one"}'

    done = shoal("serve", "status", "--url", answering.url)

    assert (done.code, done.err) == (1, "error  no key\nnext   send one\n")


@pytest.mark.parametrize("body", [b"<html>", b"[]", b'{"other": "service"}'])
def test_another_service_is_not_taken_for_shoal(shoal, answering, body):
    answering.body = body

    done = shoal("serve", "status", "--url", answering.url)

    assert done.code == 1
    assert f"no shoal server answers at {answering.url}" in done.err


def test_nobody_there_fails_with_the_next_step(shoal, answering):
    done = shoal("serve", "status", "--url", "http://127.0.0.1:1")

    assert done.code == 1
    assert "\nnext   check the url, or start one" in done.err


@pytest.mark.parametrize("url", ["localhost:8080", "ftp://here", "http://"])
def test_what_is_no_url_is_refused(shoal, url):
    done = shoal("serve", "status", "--url", url)

    assert done.code == 1
    assert "expected http://HOST:PORT" in done.err


def test_the_longest_load_is_passed_on(shoal, monkeypatch):
    given = {}
    monkeypatch.setattr("shoal.serve.run", lambda model, **options: given.update(options))

    shoal("serve", "run", "model.onnx", "--start-s", "300")

    assert given["start_s"] == 300


def test_what_is_seen_of_requests_is_handed_on(shoal, monkeypatch):
    given = {}
    monkeypatch.setattr("shoal.serve.run", lambda model, **options: given.update(options))
    seen = ("--log-sample", "0.1", "--log-drop", "pixels", "--log-drop", "raw*", "--access-log", "-")
    traced = ("--traces", "http://127.0.0.1:4318", "--trace-sample", "0.01")

    assert shoal("serve", "run", "model.onnx", *seen, *traced).code == 0

    assert (given["log_sample"], given["log_drop"], given["access_log"]) == (0.1, ("pixels", "raw*"), "-")
    assert (given["traces"], given["trace_sample"]) == ("http://127.0.0.1:4318", 0.01)


@pytest.mark.parametrize(
    ("option", "value"), [("--log-sample", "0"), ("--log-sample", "1.5"), ("--trace-sample", "-1")]
)
def test_a_share_that_is_none_is_wrong_usage(shoal, option, value):
    assert shoal("serve", "run", "model.onnx", option, value).code == 2
