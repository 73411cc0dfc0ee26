"""Triton's own client, as it comes: what it asks for over gRPC must work unchanged."""

import asyncio

import numpy as np
import pytest
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from tritonclient.utils import InferenceServerException


@pytest.fixture
def client(door):
    client = triton.InferenceServerClient(door.target)
    yield client
    client.close()


def image_input(rows=2, kind=triton):
    image = np.arange(rows * 4, dtype=np.uint8).reshape(rows, 2, 2)
    tensor = kind.InferInput("image", [rows, 2, 2], "UINT8")
    tensor.set_data_from_numpy(image)
    return tensor, image.reshape(rows, 4).sum(axis=1, dtype=np.float32)[:, None].repeat(3, axis=1)


def test_health(client):
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("m")
    assert client.is_model_ready("m", "1")
    with pytest.raises(InferenceServerException, match="there is no model 'other' here"):
        client.is_model_ready("other")


def test_metadata_configuration_index_and_statistics(client):
    assert client.get_server_metadata().name == "shoal"
    metadata = client.get_model_metadata("m", as_json=True)
    assert metadata["inputs"] == [{"name": "image", "datatype": "UINT8", "shape": ["-1", "2", "2"]}]
    assert client.get_model_config("m").config.name == "m"
    assert client.get_model_repository_index().models[0].state == "READY"
    assert client.get_inference_statistics("m").model_stats[0].name == "m"


def test_inference(client):
    tensor, expected = image_input()

    result = client.infer("m", [tensor], request_id="q", outputs=[triton.InferRequestedOutput("scores")])

    np.testing.assert_array_equal(result.as_numpy("scores"), expected)
    assert result.get_response().id == "q"
    assert result.get_output("scores").datatype == "FP32"


def test_inference_with_every_option(client):
    tensor, expected = image_input()

    result = client.infer(
        "m", [tensor], model_version="1", priority=2, timeout=5_000_000, client_timeout=20,
        headers={"x-request": "1"}, compression_algorithm="gzip",
    )  # fmt: skip

    np.testing.assert_array_equal(result.as_numpy("scores"), expected)


def test_inference_with_a_callback(client):
    tensor, expected = image_input()
    loop = asyncio.new_event_loop()

    async def ask():
        answers = [loop.create_future() for _ in range(50)]
        for answer in answers:
            client.async_infer(
                "m",
                [tensor],
                lambda result, error, answer=answer: loop.call_soon_threadsafe(answer.set_result, (result, error)),
            )
        return await asyncio.gather(*answers)

    for result, error in loop.run_until_complete(ask()):
        assert error is None
        np.testing.assert_array_equal(result.as_numpy("scores"), expected)
    loop.close()


def test_what_is_not_here_says_so(client):
    tensor, _ = image_input()
    for ask in (
        lambda: client.load_model("m"),
        lambda: client.unload_model("m"),
        client.get_system_shared_memory_status,
        client.get_trace_settings,
        lambda: client.infer("m", [tensor], sequence_id=7, sequence_start=True),
        lambda: client.infer("m", [tensor], outputs=[triton.InferRequestedOutput("scores", class_count=2)]),
    ):
        with pytest.raises(InferenceServerException) as caught:
            ask()
        assert caught.value.status() in ("StatusCode.UNIMPLEMENTED", "StatusCode.INVALID_ARGUMENT")
        assert "next: " in caught.value.message()


def test_asyncio(door):
    async def ask():
        async with triton_aio.InferenceServerClient(door.target) as client:
            assert await client.is_server_ready()
            tensor, expected = image_input(1, triton_aio)
            results = await asyncio.gather(*(client.infer("m", [tensor], request_id=str(n)) for n in range(200)))
            with pytest.raises(InferenceServerException, match="expected 'UINT8'"):
                await client.infer("m", [triton_aio.InferInput("image", [1, 2, 2], "INT8")])
            return results, expected

    results, expected = asyncio.run(ask())

    assert [result.get_response().id for result in results] == [str(number) for number in range(200)]
    for result in results:
        np.testing.assert_array_equal(result.as_numpy("scores"), expected)
