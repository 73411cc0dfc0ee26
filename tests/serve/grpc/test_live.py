"""Servers with a gRPC port, as their users start them."""

import os
import signal
import socket
import threading

import numpy as np
import pytest
import tritonclient.grpc as triton

from shoal.base import ConfigError, ServeError
from shoal.serve import start
from shoal.serve.host.settings import ServeSettings

IMAGE = np.arange(8, dtype=np.uint8).reshape(2, 2, 2)


def ask(client, image=IMAGE):
    tensor = triton.InferInput("image", list(image.shape), "UINT8")
    tensor.set_data_from_numpy(image)
    return client.infer("scorer", [tensor], client_timeout=20)


@pytest.mark.slow
def test_both_doors_give_the_same_answer(scorer, connect):
    with start(scorer, port=0, grpc_port=0, replicas=1) as server:
        by_grpc = ask(triton.InferenceServerClient(f"127.0.0.1:{server.grpc_port}")).as_numpy("scores")
        body = {"inputs": [{"name": "image", "datatype": "UINT8", "shape": [2, 2, 2], "data": IMAGE.ravel().tolist()}]}
        _, by_http = connect(server.port).infer("scorer", body)

    np.testing.assert_allclose(by_grpc.ravel(), by_http["outputs"][0]["data"], rtol=1e-6)


@pytest.mark.slow
def test_a_front_that_is_started_again_has_its_grpc_port_again(scorer, eventually):
    with start(scorer, port=0, grpc_port=0, replicas=1) as server:
        client = triton.InferenceServerClient(f"127.0.0.1:{server.grpc_port}")
        before = ask(client).as_numpy("scores")
        os.kill(server.pids()["front"], signal.SIGKILL)

        def answers():
            try:
                return np.array_equal(ask(client).as_numpy("scores"), before)
            except triton.InferenceServerException:
                return False

        eventually(answers)


@pytest.mark.slow
def test_fronts_share_the_grpc_port(scorer):
    with start(scorer, port=0, grpc_port=0, replicas=1, fronts=2) as server:
        for _ in range(4):
            client = triton.InferenceServerClient(
                f"127.0.0.1:{server.grpc_port}", channel_args=[("grpc.use_local_subchannel_pool", 1)]
            )
            assert ask(client).as_numpy("scores").shape == (2, 3)
            client.close()


class Heard:
    """What a stream's callback was given, in order."""

    def __init__(self):
        self.results, self._came = [], threading.Semaphore(0)

    def __call__(self, result, error):
        self.results.append((result, error))
        self._came.release()

    def wait(self, num):
        for _ in range(num):
            assert self._came.acquire(timeout=60)


@pytest.mark.slow
def test_a_stream_loses_no_request_when_a_replica_is_killed(scorer):
    tensor = triton.InferInput("image", [2, 2, 2], "UINT8")
    tensor.set_data_from_numpy(IMAGE)
    heard = Heard()
    with start(scorer, port=0, grpc_port=0, replicas=2, fronts=2) as server:
        client = triton.InferenceServerClient(f"127.0.0.1:{server.grpc_port}")
        client.start_stream(heard)
        for number in range(600):
            if number == 200:
                heard.wait(50)
                os.kill(server.pids()["replicas"][0], signal.SIGKILL)
            client.async_stream_infer("scorer", [tensor], request_id=str(number))
        client.stop_stream()
        client.close()

    assert [error for _, error in heard.results] == [None] * 600
    assert [result.get_response().id for result, _ in heard.results] == [str(number) for number in range(600)]


@pytest.mark.slow
def test_a_stopping_server_does_not_wait_for_streams_that_ask_nothing(scorer):
    heard = Heard()
    with start(scorer, port=0, grpc_port=0, replicas=1) as server:
        client = triton.InferenceServerClient(f"127.0.0.1:{server.grpc_port}")
        client.start_stream(heard)
        ask(client)
        server.stop()
        heard.wait(1)
        client.close()

    assert heard.results[0][1].status() == "StatusCode.UNAVAILABLE"
    assert "the server is stopping" in heard.results[0][1].message()


@pytest.mark.slow
def test_idle_connections_and_streams_and_half_sent_messages_harm_nobody(scorer, peer):
    # To each connection its own table of headers.
    kind, method = type(peer), "/inference.GRPCInferenceService/"
    starts = [
        lambda one: b"",
        lambda one: one.hello()[:10],
        lambda one: one.hello(),
        lambda one: one.hello() + one.head(1, f"{method}ModelStreamInfer"),
        lambda one: one.hello() + one.head(1, f"{method}ModelStreamInfer") + one.data(1, b"half", flags=0)[:-2],
        lambda one: one.hello() + one.head(1, f"{method}ModelInfer") + one.data(1, b"half", flags=0)[:-2],
        lambda one: one.hello() + one.head(1, f"{method}RepositoryModelUnload") + one.data(1, b"", flags=0),
    ]
    with start(scorer, port=0, grpc_port=0, replicas=1) as server:
        crowd = [socket.create_connection(("127.0.0.1", server.grpc_port)) for _ in range(60 * len(starts))]
        for number, each in enumerate(crowd):
            each.sendall(starts[number % len(starts)](kind()))
        client = triton.InferenceServerClient(f"127.0.0.1:{server.grpc_port}")
        answers = [ask(client).as_numpy("scores").shape for _ in range(20)]
        for each in crowd:
            each.close()

        assert answers == [(2, 3)] * 20
        assert ask(client).as_numpy("scores").shape == (2, 3)


@pytest.mark.slow
def test_a_grpc_port_that_is_taken_is_told(scorer, server):
    with pytest.raises(ServeError, match=str(server.port)):
        start(scorer, port=0, grpc_port=server.port, replicas=1)


@pytest.mark.parametrize("port", [-1, 65536, 8080])
def test_a_port_that_cannot_be_is_refused(port):
    with pytest.raises(ConfigError, match="grpc_port"):
        ServeSettings(grpc_port=port)
