"""Models loaded and unloaded while a server runs, as Triton's clients ask for it, and what all fronts count."""

import asyncio
import os
import shutil
import signal
import socket

import numpy as np
import pytest
import tritonclient.grpc as by_grpc
import tritonclient.grpc.aio as by_grpc_aio
import tritonclient.http as by_http
import tritonclient.http.aio as by_http_aio
from tritonclient.utils import InferenceServerException

import shoal.store
from shoal.base import ConfigError
from shoal.model import package
from shoal.serve import start

IMAGES = np.arange(8, dtype=np.uint8).reshape(2, 2, 2)


def tensor(kind):
    found = kind.InferInput("image", [2, 2, 2], "UINT8")
    found.set_data_from_numpy(IMAGES)
    return found


def scores(client, model, kind=by_http):
    return client.infer(model, [tensor(kind)]).as_numpy("scores")


def shut(client):
    """Close a client, so that it does not try to when it is collected, maybe in a thread that is not its own."""
    client.close()
    client.close = lambda: None


def fresh_clients(server, num=6):
    """Connections of their own, so that each front gets some."""
    for _ in range(num):
        client = by_http.InferenceServerClient(f"127.0.0.1:{server.port}")
        yield client
        shut(client)


def is_gone(server, model):
    """Whether each front says that a model is not there; not so while a front is not there itself."""
    for client in fresh_clients(server):
        try:
            scores(client, model)
        except InferenceServerException as error:
            if "there is no model" not in error.message():
                return False
        except OSError:
            return False
        else:
            return False
    return True


@pytest.fixture
def over_http():
    """Opens clients over HTTP; they must be closed by the thread that opened them."""
    opened = []

    def over_http(server, **options):
        opened.append(by_http.InferenceServerClient(f"127.0.0.1:{server.port}", **options))
        return opened[-1]

    yield over_http
    for client in opened:
        shut(client)


@pytest.fixture
def over_grpc():
    """Opens clients over gRPC."""
    opened = []

    def over_grpc(server):
        opened.append(by_grpc.InferenceServerClient(f"127.0.0.1:{server.grpc_port}"))
        return opened[-1]

    yield over_grpc
    for client in opened:
        client.close()


@pytest.fixture
def folder(tmp_path, scorer, other_scorer):
    folder = tmp_path / "models"
    folder.mkdir()
    shutil.copy(scorer, folder / "first.onnx")
    shutil.copy(other_scorer, folder / "second.onnx")
    return folder


@pytest.mark.slow
def test_all_fronts_agree_on_what_a_client_loads_and_unloads(folder, scorer, eventually, over_http, over_grpc):
    with start(folder, port=0, grpc_port=0, replicas=1, fronts=2) as server:
        http = over_http(server)
        grpc = over_grpc(server)
        before = scores(http, "first")

        http.unload_model("first")
        for client in fresh_clients(server):
            with pytest.raises(InferenceServerException, match="there is no model 'first'"):
                scores(client, "first")
            assert scores(client, "second").shape == (2, 3)
        grpc.load_model("first")
        for client in fresh_clients(server):
            np.testing.assert_array_equal(scores(client, "first"), before)
        # A file that has just come need not be looked at twice.
        shutil.copy(scorer, folder / "third.onnx")
        grpc.load_model("third")
        for client in fresh_clients(server):
            np.testing.assert_array_equal(scores(client, "third"), before)
        np.testing.assert_array_equal(scores(grpc, "third", by_grpc), before)
        # The front that took the wish may die before or after: the others, and its successor, have the plan.
        grpc.unload_model("third")
        killed = server.pids()["fronts"][0]
        os.kill(killed, signal.SIGKILL)
        eventually(lambda: server.pids()["fronts"][0] not in (None, killed) and is_gone(server, "third"))


@pytest.mark.slow
def test_a_damaged_file_is_told_and_the_old_one_keeps_serving(folder, scorer, over_http, over_grpc):
    with start(folder, port=0, grpc_port=0, replicas=1) as server:
        http = over_http(server)
        grpc = over_grpc(server)
        before = scores(http, "first")
        (folder / "first.onnx").write_bytes(scorer.read_bytes()[:60])

        with pytest.raises(InferenceServerException, match="cannot load first@") as http_error:
            http.load_model("first")
        with pytest.raises(InferenceServerException, match="cannot load first@") as grpc_error:
            grpc.load_model("first")
        after = scores(http, "first")
        http.unload_model("first")
        shutil.copy(scorer, folder / "first.onnx")
        http.load_model("first")

        assert http_error.value.status() == "422"
        assert grpc_error.value.status() == "StatusCode.INVALID_ARGUMENT"
        assert "next: " in grpc_error.value.message()
        np.testing.assert_array_equal(after, before)
        np.testing.assert_array_equal(scores(http, "first"), before)


@pytest.mark.slow
def test_the_registry_s_models_come_by_name_and_are_followed(scorer, other_scorer, tmp_path, over_http):
    with shoal.store.open(tmp_path / ".shoal") as store:
        for path in (scorer, other_scorer):
            made = package(path, example={"image": IMAGES}, name=path.stem, path=tmp_path / path.stem)
            store.models.register(path.stem, made)
        with start("scorer", store=store, port=0, replicas=1) as server:
            client = over_http(server)
            with pytest.raises(InferenceServerException, match="absent") as unknown:
                client.load_model("absent")
            client.load_model("other")
            first = scores(client, "other")
            newer = package(scorer, example={"image": IMAGES}, name="other", path=tmp_path / "newer")
            store.models.register("other", newer)
            server.wait_for("other", 2)
            followed = scores(client, "other")
            with pytest.raises(ConfigError, match="follows the registry"):
                server.swap("other", {"3": scorer})
            client.unload_model("other")
            client.unload_model("scorer")
            store.models.register("scorer", newer)
            index = client.get_model_repository_index()
            client.load_model("scorer")

            assert unknown.value.status() == "404"
            assert not np.array_equal(first, followed)
            assert index == []
            assert client.is_model_ready("scorer", "2")


@pytest.mark.slow
def test_running_requests_are_answered_while_their_model_is_unloaded(tmp_path, over_http):
    (tmp_path / "waiting.py").write_text(
        "import time, numpy as np\n"
        "class Waiting:\n"
        "    example = {'x': np.zeros((1, 1), np.float32)}\n"
        "    def predict(self, batch):\n"
        "        time.sleep(0.3 if batch['x'].any() else 0)\n"
        "        return {'y': batch['x']}\n"
    )
    value = by_http.InferInput("x", [1, 1], "FP32")
    value.set_data_from_numpy(np.ones((1, 1), np.float32))
    with start({"w": f"{tmp_path}/waiting.py:Waiting"}, port=0, replicas=1) as server:
        client = over_http(server, concurrency=4)
        running = [client.async_infer("w", [value]) for _ in range(3)]
        # They are in once this one is answered, which came after them.
        while server.status()["queue"]["requests"] + server.status()["replicas"][0]["running_rows"] == 0:
            pass
        client.unload_model("w")

        with pytest.raises(InferenceServerException, match="there is no model 'w'"):
            client.infer("w", [value])
        answered = [each.get_result().as_numpy("y").tolist() for each in running]

    assert answered == [[[1.0]]] * 3


@pytest.mark.slow
def test_the_key_is_needed_to_load_and_unload(scorer, over_http, over_grpc):
    with start(scorer, port=0, grpc_port=0, replicas=1, api_key="k") as server:
        http = over_http(server)
        grpc = over_grpc(server)
        for refuse in (http.unload_model, grpc.unload_model, http.load_model, grpc.load_model):
            with pytest.raises(InferenceServerException, match="found no key"):
                refuse("scorer")
        http.unload_model("scorer", headers={"X-API-Key": "k"})
        grpc.load_model("scorer", headers={"x-api-key": "k"})

        assert http.is_model_ready("scorer", headers={"X-API-Key": "k"})


@pytest.mark.slow
def test_a_server_that_stops_answers_wishes_that_wait(tmp_path, scorer, connect):
    (tmp_path / "slow.py").write_text(
        "import time, numpy as np\n"
        "class Slow:\n"
        "    example = {'x': np.zeros((1, 1), np.float32)}\n"
        "    def __init__(self):\n"
        f"        while __import__('os').path.exists({str(tmp_path / 'block')!r}): time.sleep(0.01)\n"
        "    def predict(self, batch):\n"
        "        return {'y': batch['x']}\n"
    )
    with start({"m": scorer, "slow": f"{tmp_path}/slow.py:Slow"}, port=0, replicas=1) as server:
        wire = connect(server.port)
        assert wire.ask("POST", "/v2/repository/models/slow/unload")[0] == 200
        (tmp_path / "block").touch()
        wire.send(b"POST /v2/repository/models/slow/load HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n")
        other = connect(server.port)
        while other.ask("GET", "/status")[2].count(b"slow@1") == 0:
            pass
        server.stop()

        assert wire.receive()[0] == 503


@pytest.mark.slow
def test_half_a_wish_harms_nobody(scorer, connect, image_request, over_grpc):
    with start(scorer, port=0, grpc_port=0, replicas=1) as server:
        head = b"POST /v2/repository/models/scorer/unload HTTP/1.1\r\nHost: h\r\nContent-Length: 30\r\n\r\n"
        halves = [connect(server.port) for _ in range(20)]
        for wire in halves:
            wire.send(head + b'{"parameters": ')
        leaving = connect(server.port)
        leaving.send(head[:20])
        leaving.socket.close()
        silent = [socket.create_connection(("127.0.0.1", server.grpc_port)) for _ in range(50)]

        assert connect(server.port).infer("scorer", image_request)[0] == 200
        halves[0].send(b'{"x": {}}      ')
        assert halves[0].receive()[0] == 400
        client = over_grpc(server)
        assert scores(client, "scorer", by_grpc).shape == (2, 3)
        for each in silent:
            each.close()


@pytest.mark.slow
def test_asynchronous_clients_load_and_unload(scorer, other_scorer):
    async def scene(server):
        async with (
            by_http_aio.InferenceServerClient(f"127.0.0.1:{server.port}") as http,
            by_grpc_aio.InferenceServerClient(f"127.0.0.1:{server.grpc_port}") as grpc,
        ):
            await http.unload_model("a")
            with pytest.raises(InferenceServerException, match="there is no model 'a'"):
                await grpc.get_model_metadata("a")
            await grpc.load_model("a")
            # Together: every one is answered, and what was last wished is what is.
            await asyncio.gather(*(grpc.load_model(name) for name in ("a", "b") for _ in range(4)))
            await asyncio.gather(grpc.unload_model("a"), http.unload_model("b"))
            return await http.get_model_repository_index()

    with start({"a": scorer, "b": other_scorer}, port=0, grpc_port=0, replicas=1, fronts=2) as server:
        assert asyncio.run(scene(server)) == []


@pytest.mark.slow
def test_a_path_without_a_name_means_no_other_model_while_its_own_is_unloaded(scorer, other_scorer, connect):
    with start({"a": scorer, "b": other_scorer}, port=0, replicas=1) as server:
        wire, body = connect(server.port), b'{"image": [[1, 2], [3, 4]]}'
        first = wire.ask("POST", "/predict", body, Content_Type="application/json")
        wire.ask("POST", "/v2/repository/models/a/unload")
        without = wire.ask("POST", "/predict", body, Content_Type="application/json")
        wire.ask("POST", "/v2/repository/models/a/load")
        again = wire.ask("POST", "/predict", body, Content_Type="application/json")

    assert (first[0], without[0], again[0]) == (200, 404, 200)
    assert b'"model":"a"' in again[2]


@pytest.mark.slow
def test_statistics_are_those_of_all_fronts(scorer, eventually, over_grpc):
    with start(scorer, port=0, grpc_port=0, replicas=1, fronts=2) as server:
        for client in fresh_clients(server, 10):
            scores(client, "scorer")
        grpc = over_grpc(server)

        def counted():
            found = [client.get_inference_statistics() for client in fresh_clients(server)]
            told = [int(each["model_stats"][0]["inference_count"]) for each in found]
            told.append(grpc.get_inference_statistics("scorer").model_stats[0].inference_count)
            return set(told) == {20}

        # Fronts tell each other many times a second, not at once.
        eventually(counted)
