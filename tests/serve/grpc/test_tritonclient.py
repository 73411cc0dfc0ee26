"""Triton's own client, as it comes: what it asks for over gRPC must work unchanged."""

import asyncio
import contextlib
import threading

import numpy as np
import pytest
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from tritonclient.utils import InferenceServerException

from shoal.serve.batching.admission import AdmissionLimits
from shoal.serve.desk.wishes import Wishes
from shoal.serve.links.messages import WishDone


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


class Heard:
    """What a stream's callback was given, in order."""

    def __init__(self):
        self.results, self._came = [], threading.Semaphore(0)

    def __call__(self, result, error):
        self.results.append((result, error))
        self._came.release()

    def wait(self, num):
        for _ in range(num):
            assert self._came.acquire(timeout=20)
        return self.results


@pytest.mark.parametrize("compression", [None, "gzip"])
def test_a_stream_answers_in_order(client, compression):
    heard = Heard()
    inputs = [image_input(rows) for rows in (1, 2, 3)] * 50
    client.start_stream(heard, compression_algorithm=compression)
    for number, (tensor, _) in enumerate(inputs):
        client.async_stream_infer("m", [tensor], request_id=str(number))
    found = heard.wait(len(inputs))
    client.stop_stream()

    assert [error for _, error in found] == [None] * len(inputs)
    for number, ((result, _), (_, expected)) in enumerate(zip(found, inputs, strict=True)):
        assert result.get_response().id == str(number)
        np.testing.assert_array_equal(result.as_numpy("scores"), expected)


def test_a_stream_goes_on_after_a_mistake(client):
    heard = Heard()
    tensor, _ = image_input()
    wrong = triton.InferInput("image", [1, 2, 2], "INT8")
    client.start_stream(heard)
    client.async_stream_infer("m", [tensor], request_id="a")
    client.async_stream_infer("m", [wrong], request_id="b")
    client.async_stream_infer("absent", [tensor], request_id="c")
    client.async_stream_infer("m", [tensor], request_id="d", sequence_id=7)
    client.async_stream_infer("m", [tensor], request_id="e", priority=1, timeout=5_000_000)
    found = heard.wait(5)
    client.stop_stream()

    assert [error is None for _, error in found] == [True, False, False, False, True]
    assert "expected 'UINT8'" in found[1][1].message()
    assert "there is no model 'absent'" in found[2][1].message()
    assert all("next: " in error.message() for _, error in found[1:4])


def test_the_end_of_a_stream_waits_for_its_answers(client):
    heard = Heard()
    tensor, _ = image_input()
    client.start_stream(heard)
    for _ in range(20):
        client.async_stream_infer("m", [tensor], enable_empty_final_response=True)
    client.stop_stream()

    assert len(heard.results) == 20
    parameters = heard.results[-1][0].get_response().parameters
    assert parameters["triton_final_response"].bool_param


def test_a_stream_without_the_key_is_refused(open_door):
    door = open_door(key="secret")
    door.add_replica()
    tensor, _ = image_input()
    heard = {}
    for headers in (None, {"authorization": "Bearer secret"}):
        with triton.InferenceServerClient(door.target) as client:
            heard[headers is None] = told = Heard()
            client.start_stream(told, headers=headers)
            # The refusal may be here before the request is sent.
            with contextlib.suppress(InferenceServerException):
                client.async_stream_infer("m", [tensor])
            told.wait(1)

    assert heard[True].results[0][1].status() == "StatusCode.UNAUTHENTICATED"
    assert heard[False].results[0][1] is None


def test_a_stream_past_its_timeout_ends(open_door):
    tensor, _ = image_input()
    heard = Heard()
    with triton.InferenceServerClient(open_door().target) as client:
        client.start_stream(heard, stream_timeout=0.2)
        client.async_stream_infer("m", [tensor])
        ((_, error),) = heard.wait(1)

    assert error.status() == "StatusCode.DEADLINE_EXCEEDED"


def test_a_stream_that_is_cancelled_lets_what_waits_go(open_door, eventually):
    door = open_door()
    tensor, _ = image_input()
    heard = Heard()
    with triton.InferenceServerClient(door.target) as client:
        client.start_stream(heard)
        client.async_stream_infer("m", [tensor])
        eventually(lambda: door.tell(lambda: door.house.dispatcher.num_open))
        client.stop_stream(cancel_requests=True)
        eventually(lambda: not any(each.is_busy for each in door.tell(lambda: list(door.house.desk.connections))))

    assert heard.results[0][1].status() == "StatusCode.CANCELLED"


def test_a_stream_of_large_answers_makes_the_client_wait_and_loses_none(open_door):
    door = open_door(most_body_bytes=1 << 20, limits=AdmissionLimits(most_wait_s=1e6))
    door.add_replica()
    heard = Heard()
    tensor, expected = image_input(50_000)
    with triton.InferenceServerClient(door.target) as client:
        client.start_stream(heard)
        for number in range(40):
            client.async_stream_infer("m", [tensor], request_id=str(number))
        found = heard.wait(40)

    assert [error for _, error in found] == [None] * 40
    assert [result.get_response().id for result, _ in found] == [str(number) for number in range(40)]
    np.testing.assert_array_equal(found[-1][0].as_numpy("scores"), expected)


def test_asyncio_streams(door):
    async def requests(tensor):
        for number in range(30):
            model = "absent" if number == 7 else "m"
            yield {"model_name": model, "inputs": [tensor], "request_id": str(number)}

    async def ask():
        async with triton_aio.InferenceServerClient(door.target) as client:
            tensor, expected = image_input(2, triton_aio)
            return [each async for each in client.stream_infer(requests(tensor))], expected

    found, expected = asyncio.run(ask())

    assert [number for number, (_, error) in enumerate(found) if error is not None] == [7]
    assert [result.get_response().id for result, error in found if error is None] == [
        str(number) for number in range(30) if number != 7
    ]
    np.testing.assert_array_equal(found[-1][0].as_numpy("scores"), expected)


def test_wishes_reach_the_supervisor_and_its_answer_comes_back(door, client):
    def answer(wish):
        known = wish.model == "m"
        done = WishDone(wish.id, 200) if known else WishDone(wish.id, 404, "there is no such model", "look")
        door.loop.call_soon(lambda: door.house.desk.wishes.on_done(done))
        wishes.append((wish.action, wish.model))

    wishes = []
    door.tell(lambda: setattr(door.house.desk, "wishes", Wishes(answer)))

    client.unload_model("m", unload_dependents=True)
    client.load_model("m")
    with pytest.raises(InferenceServerException, match="there is no such model; next: look") as unknown:
        client.load_model("x")
    with pytest.raises(InferenceServerException, match="models are loaded as the server finds them") as refused:
        client.load_model("m", config="{}", files={"file:1/model.onnx": b"bytes"})

    assert wishes == [("unload", "m"), ("load", "m"), ("load", "x")]
    assert unknown.value.status() == "StatusCode.NOT_FOUND"
    assert refused.value.status() == "StatusCode.INVALID_ARGUMENT"


def test_wishes_by_asyncio(door):
    door.tell(lambda: setattr(door.house.desk, "wishes", Wishes(lambda wish: door.loop.call_soon(answer, wish))))

    def answer(wish):
        door.house.desk.wishes.on_done(WishDone(wish.id, 200))

    async def ask():
        async with triton_aio.InferenceServerClient(door.target) as client:
            await client.unload_model("m")
            await client.load_model("m")

    asyncio.run(ask())
