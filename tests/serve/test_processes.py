"""A server whose processes hang and die, one front and several: what clients see, and what is counted and logged."""

import os
import signal
import socket
import threading
from collections import Counter
from http.client import RemoteDisconnected

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from prometheus_client.parser import text_string_to_metric_families

from shoal.base import UnavailableError, open_log
from shoal.serve import Client, start

EXAMPLE = {"image": np.array([[[1, 2], [3, 4]]], np.uint8)}


@pytest.fixture
def endless(looping):
    """A scorer that takes longer than any test, so that trying it out never ends."""
    return looping(1 << 60)


@pytest.fixture
def looping(scorer, tmp_path):
    """Saves the scorer with a loop of so many turns before it."""
    return lambda turns: _save_looping(scorer, tmp_path / "looping.onnx", turns)


def _save_looping(scorer, path, num_turns):
    graph = onnx.load(scorer).graph
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go_on"], ["goes_on"]),
            helper.make_node("Mul", ["image_in", "one"], ["image_out"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("image_in", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("goes_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("image_out", TensorProto.FLOAT, None),
        ],
        [numpy_helper.from_array(np.array(1, np.float32), "one")],
    )
    turns = numpy_helper.from_array(np.array(num_turns, np.int64), "turns")
    nodes = list(graph.node)
    first = next(index for index, node in enumerate(nodes) if "floats" in node.output)
    loop = helper.make_node("Loop", ["turns", "", "floats"], ["turned"], body=body)
    nodes.insert(first + 1, loop)
    nodes[first + 2].input[0] = "turned"
    made = helper.make_graph(nodes, "endless", graph.input, graph.output, [*graph.initializer, turns])
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


def ask(server, num=1):
    """Ask on a new connection each time, as the kernel chooses the front by connection."""
    found = []
    for _ in range(num):
        with Client(server.url) as client:
            found.append(client.infer(server.name, EXAMPLE))
    return found


def is_ready(server):
    with Client(server.url) as client:
        return client.is_ready()


def able(server):
    return {replica["pid"] for replica in server.status()["replicas"] if replica["loaded"]}


def counts(server, path="/metrics"):
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(f"GET {path} HTTP/1.0\r\n\r\n".encode())
        data = b""
        while piece := connection.recv(65536):
            data += piece
    families = text_string_to_metric_families(data.partition(b"\r\n\r\n")[2].decode())
    total = Counter()
    for family in families:
        for sample in family.samples:
            total[sample.name] += sample.value
    return total


@pytest.mark.slow
def test_a_replica_that_is_stopped_while_it_loads_is_replaced(scorer, other_scorer, eventually):
    with start(scorer, port=0, replicas=2, start_s=10.0) as server:
        eventually(lambda: len(able(server)) == 2)
        hanging = server.pids()["replicas"][0]
        os.kill(hanging, signal.SIGSTOP)
        server.swap("scorer", {"2": other_scorer})

        server.wait_for("scorer", 2, timeout_s=60)
        eventually(lambda: len(able(server)) == 2)

        assert hanging not in server.pids()["replicas"]
        assert {result.version for result in ask(server, 10)} == {"2"}


@pytest.mark.slow
def test_a_replica_that_never_says_hello_is_replaced_and_health_tells_the_truth(scorer, eventually):
    with start(scorer, port=0, replicas=1, start_s=8.0) as server:
        first = server.pids()["replicas"][0]
        os.kill(first, signal.SIGKILL)
        eventually(lambda: server.pids()["replicas"] not in ([], [first]))
        hanging = server.pids()["replicas"][0]
        # Its interpreter has only begun: it cannot have said anything.
        os.kill(hanging, signal.SIGSTOP)

        assert not is_ready(server)
        assert server.status()["replicas"] == []
        eventually(lambda: is_ready(server))
        assert hanging not in server.pids()["replicas"]
        ask(server)


@pytest.mark.slow
def test_a_version_whose_loading_never_ends_costs_no_request(scorer, endless, eventually):
    with start(scorer, port=0, replicas=2, start_s=6.0) as server:
        eventually(lambda: len(able(server)) == 2)
        before = set(server.pids()["replicas"])
        server.swap("scorer", {"2": endless})
        eventually(lambda: server.status()["problems"])
        answers = ask(server, 20)
        # Both are stuck, and both are replaced, one after the other.
        eventually(lambda: not before & able(server) and len(able(server)) == 2)
        answers += ask(server, 20)

        (problem,) = server.status()["problems"]
        assert "did not load" in problem["message"]
        assert problem["version"] == "2"
        assert {result.version for result in answers} == {"1"}


@pytest.fixture(scope="module")
def pair_log(tmp_path_factory):
    return tmp_path_factory.mktemp("log")


@pytest.fixture(scope="module")
def pair(scorer, pair_log):
    with start(scorer, port=0, replicas=2, fronts=2, log_folder=pair_log) as server:
        yield server


@pytest.mark.slow
class TestTwoFronts:
    def test_any_front_answers_for_all(self, pair, pair_log, eventually):
        eventually(lambda: len(able(pair)) == 2)
        before = counts(pair).get("shoal_rows_total", 0)
        found = ask(pair, 40)
        pair.sync_log()
        ids = [result.prediction_id for result in found]
        rows = [row for _, batch in open_log(pair_log / "scorer").read() for row in batch["prediction_id"].to_pylist()]

        # Both fronts have answered: their logs have ids of their own.
        assert len({each.split(".")[-2] for each in ids}) == 2
        assert set(ids) <= set(rows)
        assert len(rows) == len(set(rows))
        # Front 1 publishes what it has counted a moment later.
        eventually(lambda: counts(pair)["shoal_rows_total"] == before + 40)
        assert [front["pid"] for front in pair.status()["fronts"]] == pair.pids()["fronts"]
        assert len(pair.status()["replicas"]) == 2

    def test_a_swap_reaches_both(self, pair, other_scorer, scorer):
        pair.swap("scorer", {"2": other_scorer})
        pair.wait_for("scorer", 2)
        swapped = ask(pair, 20)
        pair.swap("scorer", {"1": scorer})
        pair.wait_for("scorer", 1)

        assert {result.version for result in swapped} == {"2"}
        assert {result.version for result in ask(pair, 20)} == {"1"}

    def test_a_killed_front_refuses_no_new_connection(self, pair, eventually):
        stopping, gone, failures = threading.Event(), threading.Event(), []

        def connect():
            while not stopping.is_set():
                was_gone = gone.is_set()
                try:
                    ask(pair)
                except Exception as error:
                    failures.append((was_gone, error.__cause__ or error))

        ask(pair)
        before, restarts = counts(pair)["shoal_rows_total"], pair.status()["restarts"]["front"]
        threads = [threading.Thread(target=connect) for _ in range(3)]
        for thread in threads:
            thread.start()
        killed = pair.pids()["fronts"][1]
        os.kill(killed, signal.SIGKILL)
        eventually(lambda: pair.pids()["fronts"][1] != killed)
        gone.set()
        eventually(lambda: pair.pids()["fronts"][1] is not None)
        eventually(lambda: len(pair.status()["fronts"]) == 2)
        eventually(lambda: pair.status()["fronts"][1]["pid"] == pair.pids()["fronts"][1])
        stopping.set()
        for thread in threads:
            thread.join()

        # What the dying front had, accepted or in its queue, is reset; whoever comes when it is gone notices nothing.
        assert {type(error) for _, error in failures} <= {ConnectionResetError, RemoteDisconnected}
        assert not [error for was_gone, error in failures if was_gone]
        assert counts(pair)["shoal_rows_total"] >= before
        assert pair.status()["restarts"]["front"] == restarts + 1
        ask(pair, 20)

    def test_a_killed_replica_loses_no_request_of_either_front(self, pair, eventually):
        stopping, failures = threading.Event(), []

        def traffic():
            with Client(pair.url) as client:
                while not stopping.is_set():
                    try:
                        client.infer("scorer", EXAMPLE)
                    except Exception as error:
                        failures.append(error)
                        return

        threads = [threading.Thread(target=traffic) for _ in range(6)]
        for thread in threads:
            thread.start()
        for pid in pair.pids()["replicas"]:
            os.kill(pid, signal.SIGKILL)
        eventually(lambda: len(able(pair)) == 2)
        stopping.set()
        for thread in threads:
            thread.join()

        assert failures == []


@pytest.mark.slow
def test_a_front_that_hangs_is_replaced(scorer, eventually, monkeypatch):
    monkeypatch.setattr("shoal.serve.host.keeper._PULSE_S", 4.0)
    with start(scorer, port=0, replicas=1, fronts=2) as server:
        hanging = server.pids()["fronts"][0]
        os.kill(hanging, signal.SIGSTOP)

        eventually(lambda: server.pids()["fronts"][0] not in (None, hanging))
        eventually(lambda: server.pids()["fronts"][0] in {front["pid"] for front in server.status()["fronts"]})
        ask(server, 10)


@pytest.mark.slow
def test_a_sleeping_server_wakes_for_whoever_asks_and_loses_nobody(scorer, other_scorer, eventually):
    with start(scorer, port=0, replicas=(0, 2), sleep_after_s=1.0) as server:
        eventually(lambda: server.pids()["replicas"] == [])
        asleep = is_ready(server)
        found = []
        threads = [threading.Thread(target=lambda: found.extend(ask(server))) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        eventually(lambda: server.pids()["replicas"] == [])
        server.swap("scorer", {"2": other_scorer})
        server.wait_for("scorer", 2)

        assert asleep
        assert [result.version for result in found] == ["1"] * 8
        assert {result.version for result in ask(server, 3)} == {"2"}
        assert server.status()["scaling"] == {"least": 0, "most": 2, "wanted": 1}


@pytest.mark.slow
def test_a_front_that_dies_while_all_sleep_comes_back_with_a_replica(scorer, eventually):
    with start(scorer, port=0, replicas=(0, 1), sleep_after_s=1.0) as server:
        eventually(lambda: server.pids()["replicas"] == [])
        front = server.pids()["front"]
        os.kill(front, signal.SIGKILL)
        eventually(lambda: server.pids()["front"] not in (None, front))

        eventually(lambda: is_ready(server))
        ask(server)


@pytest.mark.slow
def test_replicas_follow_the_load(looping, eventually):
    stopping, failures = threading.Event(), []

    def traffic(server):
        with Client(server.url) as client:
            while not stopping.is_set():
                try:
                    client.infer(server.name, EXAMPLE)
                except UnavailableError:
                    """Refused because it would wait too long: it comes again."""
                except Exception as error:
                    failures.append(error)
                    return

    with start(looping(5_000), port=0, replicas=(1, 2)) as server:
        threads = [threading.Thread(target=traffic, args=(server,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        eventually(lambda: len(able(server)) == 2)
        stopping.set()
        for thread in threads:
            thread.join()

    assert failures == []
