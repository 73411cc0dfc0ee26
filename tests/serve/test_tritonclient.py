"""The real client of Triton over HTTP, unchanged, against a real server: what it asks is answered as it expects."""

import asyncio

import numpy as np
import pytest

from shoal.serve import start

http = pytest.importorskip("tritonclient.http")
aio = pytest.importorskip("tritonclient.http.aio")
from tritonclient.utils import InferenceServerException  # noqa: E402

IMAGES = np.arange(8, dtype=np.uint8).reshape(2, 2, 2)


def shut(client):
    """Close a client, so that it does not try to when it is collected, maybe in a thread that is not its own."""
    client.close()
    client.close = lambda: None


@pytest.fixture(scope="module")
def served(server, tmp_path_factory):
    """The server of all tests, with a model of two outputs and one that takes texts."""
    from onnx import TensorProto, helper, save

    folder = tmp_path_factory.mktemp("triton")
    tensor = helper.make_tensor_value_info
    graphs = {
        "pair": (
            [
                helper.make_node("Neg", ["x"], ["minus"]),
                helper.make_node("Cast", ["x"], ["whole"], to=TensorProto.INT64),
            ],
            [tensor("x", TensorProto.FLOAT, ["n", 2])],
            [tensor("minus", TensorProto.FLOAT, ["n", 2]), tensor("whole", TensorProto.INT64, ["n", 2])],
        ),
        "texts": (
            [helper.make_node("Equal", ["city", "rome"], ["is_rome"])],
            [tensor("city", TensorProto.STRING, ["n"])],
            [tensor("is_rome", TensorProto.BOOL, ["n"])],
        ),
    }
    constant = helper.make_tensor("rome", TensorProto.STRING, [1], [b"Rom"])
    for name, (nodes, inputs, outputs) in graphs.items():
        graph = helper.make_graph(nodes, name, inputs, outputs, [constant] if name == "texts" else [])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
        save(model, folder / f"{name}.onnx")
        server.swap(name, {"1": folder / f"{name}.onnx"})
        server.wait_for(name, 1)
    return server


@pytest.fixture
def client(served):
    client = http.InferenceServerClient(f"127.0.0.1:{served.port}")
    yield client
    shut(client)


def tensor(name, array, datatype, *, binary=True, kind=http.InferInput):
    found = kind(name, list(array.shape), datatype)
    found.set_data_from_numpy(array, binary_data=binary)
    return found


def scores_by_own_client(served):
    from shoal.serve import Client

    with Client(served.url) as own:
        return own.infer("scorer", {"image": IMAGES}).outputs["scores"]


def test_health_is_told(client):
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("scorer")
    assert client.is_model_ready("scorer", "1")
    assert not client.is_model_ready("absent")


def test_metadata_and_configuration_are_told(client):
    assert client.get_server_metadata()["name"] == "shoal"
    metadata = client.get_model_metadata("scorer")
    assert metadata["inputs"] == [{"name": "image", "datatype": "UINT8", "shape": [-1, 2, 2]}]
    assert client.get_model_metadata("scorer", "1")["outputs"][0]["name"] == "scores"
    config = client.get_model_config("scorer")
    assert config["max_batch_size"] > 0
    assert config["input"] == [{"name": "image", "data_type": "TYPE_UINT8", "dims": [2, 2]}]


def test_the_index_and_statistics_are_told(client):
    client.infer("scorer", [tensor("image", IMAGES, "UINT8")])

    index = client.get_model_repository_index()
    assert {"name": "scorer", "version": "1", "state": "READY", "reason": ""} in index
    (stats,) = client.get_inference_statistics("scorer")["model_stats"]
    assert stats["inference_count"] >= 2
    assert len(client.get_inference_statistics()["model_stats"]) > 1


@pytest.mark.parametrize("sends_binary", [True, False])
@pytest.mark.parametrize("takes_binary", [True, False])
def test_predictions_come_in_binary_and_json(client, served, sends_binary, takes_binary):
    result = client.infer(
        "scorer",
        [tensor("image", IMAGES, "UINT8", binary=sends_binary)],
        outputs=[http.InferRequestedOutput("scores", binary_data=takes_binary)],
        request_id="mine",
    )

    np.testing.assert_allclose(result.as_numpy("scores"), scores_by_own_client(served), rtol=1e-6)
    assert result.get_response()["id"] == "mine"
    assert result.get_response()["parameters"]["prediction_id"].startswith("scorer@1.")


def test_without_wishes_all_outputs_come(client):
    values = np.array([[1.0, 2.0], [3.0, 4.0]], np.float32)

    result = client.infer("pair", [tensor("x", values, "FP32")], model_version="1")

    np.testing.assert_array_equal(result.as_numpy("minus"), -values)
    np.testing.assert_array_equal(result.as_numpy("whole"), values.astype(np.int64))


def test_outputs_come_in_the_order_and_form_of_the_wishes(client):
    values = np.array([[1.0, 2.0]], np.float32)
    wishes = [http.InferRequestedOutput("whole", binary_data=False), http.InferRequestedOutput("minus")]

    result = client.infer("pair", [tensor("x", values, "FP32", binary=False)], outputs=wishes)

    assert [output["name"] for output in result.get_response()["outputs"]] == ["whole", "minus"]
    assert result.as_numpy("whole").tolist() == [[1, 2]]
    assert result.as_numpy("minus").tolist() == [[-1.0, -2.0]]


@pytest.mark.parametrize("binary", [True, False])
def test_texts_come_in_binary_and_json(client, binary):
    cities = np.array(["Rom", "Łódź", ""], object)

    result = client.infer("texts", [tensor("city", cities, "BYTES", binary=binary)])

    assert result.as_numpy("is_rome").tolist() == [True, False, False]


def test_many_requests_may_be_under_way(served):
    client = http.InferenceServerClient(f"127.0.0.1:{served.port}", concurrency=4)

    requests = [client.async_infer("scorer", [tensor("image", IMAGES, "UINT8")]) for _ in range(8)]

    assert all(request.get_result().as_numpy("scores").shape == (2, 3) for request in requests)
    shut(client)


@pytest.mark.parametrize(
    ("call", "status", "words"),
    [
        (lambda client: client.infer("absent", [tensor("image", IMAGES, "UINT8")]), "404", "there is no model"),
        (
            lambda client: client.infer("scorer", [tensor("image", IMAGES, "UINT8")], model_version="9"),
            "404",
            "version",
        ),
        (lambda client: client.infer("scorer", [tensor("picture", IMAGES, "UINT8")]), "400", "inputs.picture"),
        (lambda client: client.infer("scorer", [tensor("image", IMAGES.astype(np.int8), "INT8")]), "400", "UINT8"),
        (lambda client: client.infer("scorer", [tensor("image", IMAGES[:, 0], "UINT8")]), "400", "shape"),
        (
            lambda client: client.infer(
                "scorer",
                [tensor("image", IMAGES, "UINT8")],
                outputs=[http.InferRequestedOutput("scores", class_count=2)],
            ),
            "400",
            "classification",
        ),
        (
            lambda client: client.infer("scorer", [tensor("image", IMAGES, "UINT8")], sequence_id=3),
            "400",
            "sequence_id",
        ),
        (
            lambda client: client.infer(
                "scorer", [tensor("image", IMAGES, "UINT8")], request_compression_algorithm="gzip"
            ),
            "415",
            "Content-Encoding",
        ),
        (lambda client: client.load_model("absent"), "404", "there is no model 'absent'"),
        (lambda client: client.unload_model("absent"), "404", "there is no model 'absent'"),
        (lambda client: client.load_model("scorer", config="{}"), "400", "parameters.config"),
        (
            lambda client: client.load_model("scorer", config="{}", files={"file:1/model.onnx": b"bytes"}),
            "400",
            "models are loaded as the server finds them",
        ),
        (lambda client: client.get_model_metadata("absent"), "404", "there is no model"),
        (lambda client: client.get_model_config("absent"), "404", "there is no model"),
        (lambda client: client.get_inference_statistics("absent"), "404", "there is no model"),
        (lambda client: client.get_trace_settings(), "404", "there is nothing at"),
        (lambda client: client.get_system_shared_memory_status(), "404", "there is nothing at"),
    ],
)
def test_a_mistake_reaches_the_caller_with_its_reason(client, call, status, words):
    with pytest.raises(InferenceServerException, match=words) as caught:
        call(client)

    assert caught.value.status() == status


def test_a_model_is_unloaded_and_loaded_again(client):
    values = np.array([[1.0, 2.0]], np.float32)

    client.unload_model("pair")
    assert not any(entry["name"] == "pair" for entry in client.get_model_repository_index())
    with pytest.raises(InferenceServerException, match="there is no model 'pair'"):
        client.infer("pair", [tensor("x", values, "FP32")])
    client.unload_model("pair", unload_dependents=True)
    client.load_model("pair")

    assert client.is_model_ready("pair")
    assert client.infer("pair", [tensor("x", values, "FP32")]).as_numpy("whole").tolist() == [[1, 2]]


def test_the_asynchronous_client_unloads_and_loads(served):
    async def scene():
        async with aio.InferenceServerClient(f"127.0.0.1:{served.port}") as client:
            await client.unload_model("texts")
            with pytest.raises(InferenceServerException, match="there is no model 'texts'"):
                await client.get_model_metadata("texts")
            await client.load_model("texts")
            return await client.is_model_ready("texts")

    assert asyncio.run(scene())


def test_the_asynchronous_client_is_served_too(served):
    async def scene():
        async with aio.InferenceServerClient(f"127.0.0.1:{served.port}") as client:
            ready = await client.is_server_ready() and await client.is_model_ready("scorer")
            metadata = await client.get_model_metadata("scorer")
            index = await client.get_model_repository_index()
            statistics = await client.get_inference_statistics("scorer")
            config = await client.get_model_config("scorer")
            results = await asyncio.gather(
                *(
                    client.infer(
                        "scorer",
                        [tensor("image", IMAGES, "UINT8", binary=binary, kind=aio.InferInput)],
                        outputs=[aio.InferRequestedOutput("scores", binary_data=binary)],
                    )
                    for binary in (True, False)
                )
            )
            with pytest.raises(InferenceServerException, match=r"inputs\.picture"):
                await client.infer("scorer", [tensor("picture", IMAGES, "UINT8", kind=aio.InferInput)])
            return ready, metadata, index, statistics, config, results

    ready, metadata, index, statistics, config, results = asyncio.run(scene())

    assert ready
    assert metadata["name"] == config["name"] == statistics["model_stats"][0]["name"] == "scorer"
    assert any(entry["name"] == "scorer" for entry in index)
    for result in results:
        np.testing.assert_allclose(result.as_numpy("scores"), scores_by_own_client(served), rtol=1e-6)


@pytest.mark.slow
def test_the_clients_send_the_key_as_a_header(scorer):
    with start(scorer, port=0, replicas=1, api_key="k") as server:
        client = http.InferenceServerClient(f"127.0.0.1:{server.port}")
        with pytest.raises(InferenceServerException, match="found no key") as caught:
            client.get_server_metadata()
        metadata = client.get_server_metadata(headers={"X-API-Key": "k"})
        shut(client)

    assert caught.value.status() == "401"
    assert metadata["name"] == "shoal"
