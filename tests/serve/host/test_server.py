"""A server as the program that started it sees it: started, killed, swapped, drained, and never a failed request."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from onnx import helper

import shoal.data
import shoal.store
from shoal.base import ConfigError, CorruptError, SegmentReader, ServeError, UnavailableError, parse_prediction_id
from shoal.data.prepare import Concatenate, Encode, Impute, Preparation, Standardise
from shoal.model import AtLeast, gate, package
from shoal.serve import Client, start

IMAGES = np.array([[[1, 2], [3, 4]]], np.uint8)
EXAMPLE = {"image": IMAGES}


class Traffic:
    """Clients that ask without a pause; each failure and each version that answered is kept."""

    def __init__(self, server, num_clients=4):
        self._server = server
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(num_clients)]
        self._answered = threading.Condition()
        self.num_answers, self.failures, self.versions, self.ids = 0, [], [], []

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
        """Return when this many more requests were answered."""
        with self._answered:
            goal = self.num_answers + num
            assert self._answered.wait_for(lambda: self.num_answers >= goal or self.failures, 60)

    def _ask(self):
        with Client(self._server.url) as client:
            while not self._stopping.is_set():
                try:
                    result = client.infer(self._server.name, {"image": IMAGES})
                except Exception as error:
                    self.failures.append(error)
                    return
                with self._answered:
                    self.num_answers += 1
                    self.versions.append(result.version)
                    self.ids.append(result.prediction_id)
                    self._answered.notify_all()


def num_able(server):
    return sum(1 for replica in server.status()["replicas"] if replica["loaded"])


def test_it_tells_where_it_is_and_how_it_is(server):
    status = server.status()

    assert server.url == f"http://127.0.0.1:{server.port}"
    assert isinstance(server.pids()["front"], int)
    assert len(server.pids()["replicas"]) == 1
    assert status["ready"]
    assert status["models"]["scorer"]["shares"] == {"1": 1.0}
    assert status["restarts"] == {"front": 0, "replicas": 0}


@pytest.mark.parametrize(
    ("versions", "shares", "message"),
    [
        ({"1": "a.onnx"}, {"1": 0.5}, "sum to 1"),
        ({"1": "a.onnx"}, {"2": 1.0}, "not among"),
        ({"1": "elsewhere.onnx"}, None, "changed content"),
        ({}, None, "sum to 1"),
    ],
)
def test_an_impossible_swap_is_refused_at_once(server, versions, shares, message):
    with pytest.raises(ConfigError, match=message):
        server.swap("scorer", versions, shares)


def test_a_swap_to_what_cannot_be_loaded_is_told_and_the_old_version_stays(server, tmp_path):
    server.swap("adder", {"2": tmp_path / "absent.onnx"})

    with pytest.raises(ServeError, match=r"absent\.onnx"):
        server.wait_for("adder", 2)
    with Client(server.url) as client:
        result = client.infer("adder", {"values": np.ones((1, 2), np.float32), "flags": np.array([False])})

    assert result.version == "1"
    assert server.status()["problems"][0]["version"] == "2"


def test_waiting_for_what_does_not_come_ends(server):
    with pytest.raises(UnavailableError, match=r"found the shares \{'1': 1.0\}"):
        server.wait_for("scorer", 9, timeout_s=0.01)


@pytest.mark.slow
def test_a_port_in_use_is_a_clear_error(scorer):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]

        with pytest.raises(ServeError, match=f"cannot listen on 127.0.0.1:{port}: Address already in use.*port=0"):
            start(scorer, port=port, replicas=1)


@pytest.mark.slow
def test_a_model_that_cannot_be_loaded_is_a_clear_error(tmp_path):
    path = tmp_path / "broken.onnx"
    path.write_bytes(b"no model")

    with pytest.raises(ServeError, match=r"cannot serve broken@1.*broken\.onnx"):
        start(path, port=0, replicas=1)


@pytest.mark.slow
def test_a_key_is_asked_for_and_the_server_knows_its_own(scorer):
    with start(scorer, port=0, replicas=1, api_key="k") as server:
        assert server.status()["ready"]
        with Client(server.url, api_key="wrong") as client, pytest.raises(ServeError, match="a wrong key") as caught:
            client.infer("scorer", {"image": IMAGES})
        with Client(server.url, api_key="k") as client:
            client.infer("scorer", {"image": IMAGES})
            assert client.is_ready()

    assert caught.value.status == 401


@pytest.mark.slow
def test_killed_replicas_lose_no_request_and_come_back(scorer, eventually):
    with start(scorer, port=0, replicas=2) as server, Traffic(server) as traffic:
        os.kill(server.pids()["replicas"][0], signal.SIGKILL)
        traffic.flow()
        eventually(lambda: num_able(server) == 2)
        for pid in server.pids()["replicas"]:
            os.kill(pid, signal.SIGKILL)
        traffic.flow()
        eventually(lambda: num_able(server) == 2)
        traffic.flow()

        assert traffic.failures == []
        assert server.status()["restarts"]["replicas"] == 3


@pytest.mark.slow
def test_a_replica_that_hangs_is_killed_and_loses_no_request(scorer, eventually):
    with start(scorer, port=0, replicas=2, most_batch_s=1.5) as server, Traffic(server) as traffic:
        # One that is still loading has no work yet that it could hang in.
        eventually(lambda: num_able(server) == 2)
        hanging = server.pids()["replicas"][0]
        os.kill(hanging, signal.SIGSTOP)
        eventually(lambda: hanging not in server.pids()["replicas"])
        eventually(lambda: num_able(server) == 2)
        traffic.flow()

    assert traffic.failures == []


@pytest.mark.slow
def test_a_log_folder_that_cannot_be_used_is_a_clear_error(scorer, tmp_path):
    taken = tmp_path / "README.md"
    taken.touch()

    with pytest.raises(ServeError, match=r"cannot log predictions of scorer in the folder .*README\.md"):
        start(scorer, port=0, replicas=1, log_folder=taken)


@pytest.mark.parametrize("name", ["start_s", "most_batch_s"])
def test_an_impossible_limit_is_refused_before_anything_starts(scorer, name):
    with pytest.raises(ConfigError, match=f"{name}=0"):
        start(scorer, port=0, **{name: 0})


@pytest.mark.slow
def test_canary_swap_and_rollback_lose_no_request(scorer, other_scorer):
    both = {"1": scorer, "2": other_scorer}
    with start(scorer, port=0, replicas=2) as server, Traffic(server) as traffic:
        server.swap("scorer", both, {"1": 0.5, "2": 0.5})
        server.wait_for("scorer", 1, canary=2)
        traffic.flow()
        canaried = traffic.versions[-50:]
        server.swap("scorer", {"2": other_scorer})
        server.wait_for("scorer", 2)
        traffic.flow()
        promoted = traffic.versions[-20:]
        server.swap("scorer", {"1": scorer})
        server.wait_for("scorer", 1)
        traffic.flow()

        assert traffic.failures == []
        assert set(canaried) == {"1", "2"}
        assert set(promoted) == {"2"}
        assert set(traffic.versions[-20:]) == {"1"}


@pytest.mark.slow
def test_what_the_registry_says_is_served_and_no_request_is_lost(scorer, other_scorer, tmp_path):
    with shoal.store.open(tmp_path / ".shoal") as store:
        packages = [
            package(
                path, example={"image": IMAGES}, name="scorer", path=tmp_path / path.stem, metrics={"accuracy": 1.0}
            )
            for path in (scorer, other_scorer)
        ]
        passed = [gate(each, [AtLeast("accuracy", 0.5)]) for each in packages]
        first, second = (store.models.register("scorer", each) for each in packages)
        store.models.promote("scorer", first, results=passed[0])

        with start("scorer@production", store=store, port=0, replicas=1) as server, Traffic(server) as traffic:
            store.models.canary("scorer", second, 0.5, results=passed[1])
            server.wait_for("scorer", 1, canary=2)
            store.models.promote("scorer", second, results=passed[1])
            server.wait_for("scorer", 2)
            store.models.rollback("scorer")
            server.wait_for("scorer", 1)
            store.models.forward("scorer")
            server.wait_for("scorer", 2)
            traffic.flow()
            with pytest.raises(ConfigError, match="follows the registry"):
                server.swap("scorer", {"3": scorer})

        assert traffic.failures == []
        assert set(traffic.versions[-20:]) == {"2"}
        assert SegmentReader(store.home / "predictions" / "scorer").num_rows == traffic.num_answers


@pytest.mark.slow
def test_a_package_whose_file_was_changed_is_refused_by_name(scorer, tmp_path):
    changed = package(scorer, example={"image": IMAGES}, name="scorer", path=tmp_path / "package")
    changed.onnx_path.chmod(0o644)
    changed.onnx_path.write_bytes(changed.onnx_path.read_bytes() + b"\0")

    with pytest.raises(CorruptError, match=r"model\.onnx"):
        start(changed.path, port=0)


@pytest.mark.slow
def test_a_killed_front_comes_back_on_its_port_with_its_replicas_and_its_log(scorer, tmp_path, eventually):
    with start(scorer, port=0, replicas=2, log_folder=tmp_path) as server:
        with Traffic(server) as traffic:
            traffic.flow()
        server.sync_log()
        url, replicas = server.url, server.pids()["replicas"]

        os.kill(server.pids()["front"], signal.SIGKILL)
        with Client(url) as client:
            eventually(client.is_ready)
            eventually(lambda: num_able(server) == 2)
            result = client.infer("scorer", {"image": IMAGES})
        server.sync_log()

        assert (server.url, server.pids()["replicas"]) == (url, replicas)
        assert server.status()["restarts"] == {"front": 1, "replicas": 0}
        assert parse_prediction_id(result.prediction_id).row == traffic.num_answers
        assert SegmentReader(tmp_path / "scorer").num_rows == traffic.num_answers + 1


@pytest.mark.slow
def test_stopping_under_load_answers_or_refuses_every_request_and_seals_the_log(scorer, tmp_path):
    server = start(scorer, port=0, replicas=1, log_folder=tmp_path)
    with Traffic(server) as traffic:
        server.stop()

    # A client either gets its answer, or hears 503, or finds nobody there: never silence, never a half answer.
    assert all(isinstance(failure, UnavailableError) for failure in traffic.failures)
    logged = SegmentReader(tmp_path / "scorer")
    assert logged.num_rows == traffic.num_answers
    assert len(logged.sealed()) == 1
    server.stop()


@pytest.mark.slow
def test_no_shared_memory_and_no_files_are_left(scorer, tmp_path):
    def leftovers():
        return {str(path) for folder in ("/dev/shm", tempfile.gettempdir()) for path in Path(folder).glob("shoal-*")}

    before = leftovers()
    with start(scorer, port=0, replicas=2) as server, Traffic(server) as traffic:
        mine = {server.pids()["front"], *server.pids()["replicas"]}
        os.kill(server.pids()["replicas"][0], signal.SIGKILL)
        traffic.flow()

    left = {path for path in leftovers() - before if any(f"-{pid}-" in path for pid in mine)}
    assert left == set()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_run_serves_until_it_is_told_to_stop(scorer, number):
    program = (
        "import sys, shoal.serve\n"
        "shoal.serve.run(sys.argv[1], port=0, replicas=1, on_start=lambda server: print(server.url, flush=True))\n"
        "print('stopped')\n"
    )
    with subprocess.Popen([sys.executable, "-c", program, str(scorer)], stdout=subprocess.PIPE, text=True) as process:
        with Client(process.stdout.readline().strip()) as client:
            client.infer("scorer", {"image": IMAGES})
        process.send_signal(number)
        rest, _ = process.communicate(timeout=60)

    assert (process.returncode, rest) == (0, "stopped\n")


@pytest.mark.slow
def test_a_service_prepares_raw_rows_as_training_did(tmp_path):
    table = pa.table(
        {
            "age": pa.array([20, None, 40, 60] * 25),
            "city": pa.array(["Rom", "Łódź", None, "Rom"] * 25),
            "label": np.arange(100) % 2,
        }
    )
    preparation = Preparation(
        {
            "age": [Impute("mean"), Standardise()],
            "city": [Impute("most_frequent"), Encode(to="one_hot")],
            "features": Concatenate(["age", "city"]),
        }
    )
    dataset = shoal.data.ingest(table, tmp_path / "people").prepare(preparation)
    nodes = [helper.make_node("Identity", ["features"], ["seen"])]
    given, seen = (helper.make_tensor_value_info(name, 1, ["n", 4]) for name in ("features", "seen"))
    model = helper.make_model(
        helper.make_graph(nodes, "seen", [given], [seen]), opset_imports=[helper.make_opsetid("", 18)], ir_version=9
    )
    raw = dataset.take(np.arange(50))
    made = package(model, example=raw, dataset=dataset, kind="regression", path=tmp_path / "package")
    inputs = made.signature.inputs_from(raw)

    with start(made, replicas=1, port=0, log_folder=tmp_path / "log") as server, Client(server.url) as client:
        answers = [client.infer(server.name, inputs, binary=binary) for binary in (True, False)]
        unseen = client.infer(server.name, {name: values[:1] for name, values in inputs.items()} | {"city": ["Oslo"]})
        server.sync_log()
        logged = SegmentReader(tmp_path / "log" / server.name).row(
            parse_prediction_id(answers[0].prediction_ids[7]).row
        )

    expected = dataset.preparation.apply(raw)["features"]
    assert all(answer.outputs["seen"].tobytes() == expected.tobytes() for answer in answers)
    assert unseen.outputs["seen"][0, 1] == float(raw["city_mask"][0])
    assert (logged["age"], logged["age_mask"]) == (raw["age"][7], raw["age_mask"][7])


def test_several_models_are_served_at_once(scorer, picker):
    with start({"a": scorer, "b": picker}, port=0, replicas=1) as server, Client(server.url) as client:
        assert client.infer("a", EXAMPLE).version == "1"
        assert client.infer("b", {"index": np.array([1])}).outputs["logarithm"].tolist() == [0]


def test_one_of_several_that_cannot_be_loaded_is_told_at_the_start(scorer, tmp_path):
    (tmp_path / "cut.onnx").write_bytes(scorer.read_bytes()[:60])

    with pytest.raises(ServeError, match="cannot serve b@1"):
        start({"a": scorer, "b": tmp_path / "cut.onnx"}, port=0, replicas=1)


def test_what_is_asked_again_is_answered_from_the_cache(scorer, connect, image_request):
    with start(scorer, port=0, replicas=1, prediction_cache_bytes=1 << 20) as server:
        wire = connect(server.port)
        answers = [wire.infer("scorer", image_request)[1] for _ in range(3)]
        status = server.status()

    assert [answer["outputs"] for answer in answers] == [answers[0]["outputs"]] * 3
    assert len({answer["parameters"]["prediction_id"] for answer in answers}) == 3
    assert status["models"]["scorer"]["versions"]["1"]["cache"] == {"hits": 2, "misses": 1, "hit_rate": 0.6667}
    assert status["cache"]["entries"] == 1
