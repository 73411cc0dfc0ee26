"""Servers with a gRPC port, as their users start them."""

import os
import signal

import numpy as np
import pytest
import tritonclient.grpc as triton

from shoal.base import ConfigError, ServeError
from shoal.serve import start
from shoal.serve.settings import ServeSettings

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


@pytest.mark.slow
def test_a_grpc_port_that_is_taken_is_told(scorer, server):
    with pytest.raises(ServeError, match=str(server.port)):
        start(scorer, port=0, grpc_port=server.port, replicas=1)


@pytest.mark.parametrize("port", [-1, 65536, 8080])
def test_a_port_that_cannot_be_is_refused(port):
    with pytest.raises(ConfigError, match="grpc_port"):
        ServeSettings(grpc_port=port)
