import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import numpy as np
import pytest

from shoal.base import ConfigError, InputError, NotFoundError, ServeError, UnavailableError, UnsupportedError
from shoal.serve import Client

IMAGES = np.array([[[1, 2], [3, 4]], [[5, 6], [7, 8]]], np.uint8)


@pytest.fixture
def client(server):
    with Client(server.url) as client:
        yield client


@pytest.mark.parametrize("binary", [True, False])
def test_arrays_go_in_and_arrays_come_out(client, binary):
    result = client.infer("scorer", {"image": IMAGES}, binary=binary)

    assert result.outputs["scores"].dtype == np.float32
    assert result.outputs["scores"].shape == (2, 3)
    np.testing.assert_allclose(result.outputs["scores"].sum(axis=1), 1, rtol=1e-6)
    assert (result.model, result.version) == ("scorer", "1")


def test_json_and_binary_give_the_same_numbers(client):
    one, other = (client.infer("scorer", {"image": IMAGES}, binary=binary) for binary in (True, False))

    np.testing.assert_array_equal(one.outputs["scores"], other.outputs["scores"])


def test_every_row_has_its_own_prediction_id(client):
    result = client.infer("scorer", {"image": IMAGES})

    first, second = result.prediction_ids
    assert first == result.prediction_id
    assert int(second.rpartition(".")[2]) == int(first.rpartition(".")[2]) + 1


def test_several_inputs_are_sent_together(client):
    result = client.infer("adder", {"flags": np.array([True]), "values": np.array([[1, 2]], np.float32)}, version=1)

    assert result.outputs["total"].tolist() == [4]


def test_inputs_that_are_not_contiguous_are_sent_right(client):
    turned = client.infer("scorer", {"image": IMAGES.transpose(0, 2, 1)})
    copied = client.infer("scorer", {"image": IMAGES.transpose(0, 2, 1).copy()})

    np.testing.assert_array_equal(turned.outputs["scores"], copied.outputs["scores"])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        ({"model": "absent", "inputs": {"image": IMAGES}}, NotFoundError, "'absent'"),
        ({"model": "scorer", "inputs": {"image": IMAGES}, "version": 9}, NotFoundError, "'9'"),
        ({"model": "scorer", "inputs": {"image": IMAGES.astype(np.float32)}}, InputError, "inputs.image.datatype"),
        ({"model": "scorer", "inputs": {"image": IMAGES[0]}}, InputError, "inputs.image.shape"),
        ({"model": "scorer", "inputs": {}}, InputError, "inputs.image"),
        ({"model": "picker", "inputs": {"index": np.array([99])}}, InputError, "cannot run this input"),
        ({"model": "scorer", "inputs": {"image": np.array(["a"])}}, InputError, "found 'BYTES', expected 'UINT8'"),
        ({"model": "scorer", "inputs": {"image": np.array([1j])}}, UnsupportedError, "cannot serve tensors"),
    ],
)
def test_a_refusal_becomes_the_error_that_says_why(client, call, error, message):
    model, inputs = call.pop("model"), call.pop("inputs")

    with pytest.raises(error, match=message):
        client.infer(model, inputs, **call)


def test_nan_cannot_be_sent_in_json_nor_in_binary(client):
    inputs = {"values": np.array([[np.nan, 1]], np.float32), "flags": np.array([True])}

    for binary in (True, False):
        with pytest.raises(InputError):
            client.infer("adder", inputs, binary=binary)


def test_what_is_ready_and_what_is_there_can_be_asked(client):
    assert client.is_ready()
    assert client.metadata("adder")["inputs"][0]["shape"] == [-1, 2]


def test_nobody_there_is_told_as_unavailable():
    with Client("http://127.0.0.1:1", timeout_s=5) as client:
        assert not client.is_ready()
        with pytest.raises(UnavailableError, match="no answer from"):
            client.infer("m", {"image": IMAGES})


@pytest.mark.parametrize("url", ["127.0.0.1:80", "ftp://host", "http://", ""])
def test_what_is_no_url_is_told(url):
    with pytest.raises(ConfigError, match="cannot talk to"):
        Client(url)


@pytest.fixture
def answering():
    """A server of another make that answers every request with one status and body."""
    servers = []

    def answering(status, body, **headers):
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                self.rfile.read(int(self.headers["Content-Length"]))
                self.send_response(status)
                for name, value in {"Content-Length": str(len(body)), **headers}.items():
                    self.send_header(name.replace("_", "-"), value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_): ...

        server = HTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        servers.append((server, thread))
        return f"http://127.0.0.1:{server.server_port}"

    yield answering
    for server, thread in servers:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_busy_server_says_when_to_come_back(answering):
    url = answering(503, json.dumps({"error": "busy", "next": "wait"}).encode(), Retry_After="3")

    with Client(url) as client, pytest.raises(UnavailableError, match="busy; next: wait") as caught:
        client.infer("m", {"image": IMAGES})

    assert caught.value.retry_after_s == 3


def test_an_answer_that_is_no_json_is_told_by_its_status(answering):
    with Client(answering(502, b"<html>")) as client, pytest.raises(ServeError, match="502 Bad Gateway") as caught:
        client.infer("m", {"image": IMAGES})

    assert caught.value.status == 502
