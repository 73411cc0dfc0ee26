"""What a server promises wherever its replicas run, as tests: subclass `ServingContract`, supply `served` and `models`.

Replicas must be processes of this machine, under whatever runtime, so that the tests can kill them.
"""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shoal.base import ServeError
from shoal.serve import Client, InferResult, Server

# Longer than anything here takes: a test that waits this long has failed.
LONG_S = 60.0
NUM_CLIENTS = 4
# Of what the server is started with: a replica that is at a batch for longer counts as stuck.
MOST_BATCH_S = 1.0


class Tenfold:
    """A model in Python: ten times what it gets."""

    example: Mapping[str, Any] = {"x": np.ones((2, 3), np.float32)}

    def predict(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """The product, and a text for each row."""
        return {"tens": batch["x"] * 10, "words": np.array([f"row {row}" for row in range(len(batch["x"]))])}


class ServingContract:
    """A server with two replicas, which hang, die and are replaced."""

    @pytest.fixture(scope="class")
    @classmethod
    def served(cls) -> Iterator[Server]:
        """A server of `models[0]` under its own name as version 1: two replicas, `most_batch_s=MOST_BATCH_S`."""
        raise NotImplementedError

    @pytest.fixture(scope="class")
    @classmethod
    def models(cls) -> tuple[Path, Path, Path]:
        """Image uint8 [n, 2, 2] to scores; another one with the same inputs and outputs; a file that is no model."""
        raise NotImplementedError

    def test_answers_are_those_of_the_model(self, served: Server) -> None:
        """Whatever the number of rows, also when they are more than any socket holds at once."""
        with Client(served.url) as client:
            few = client.infer(served.name, _images(3)).outputs["scores"]
            many = client.infer(served.name, _images(1_000_000)).outputs["scores"]

        assert few.shape == (3, 3)
        assert many.shape == (1_000_000, 3)
        np.testing.assert_allclose(many[:3], few, rtol=1e-6)
        np.testing.assert_allclose(many[-3:], _again(served, _images(1_000_000)["image"][-3:]), rtol=1e-6)

    def test_a_killed_replica_loses_no_request(self, served: Server) -> None:
        """SIGKILL under load: its batch goes to the other one, and it is replaced."""
        with under_load(served) as failures:
            killed = replicas_of(served)[0]
            os.kill(killed, signal.SIGKILL)
            wait_until(lambda: len(able(served) - {killed}) == 2)

        assert failures == []

    def test_all_replicas_killed_at_once_lose_no_request(self, served: Server) -> None:
        """Requests wait for the first that comes back."""
        with under_load(served) as failures:
            killed = set(replicas_of(served))
            for pid in killed:
                os.kill(pid, signal.SIGKILL)
            wait_until(lambda: len(able(served) - killed) == 2)

        assert failures == []

    def test_a_replica_that_hangs_loses_no_request_and_is_replaced(self, served: Server) -> None:
        """SIGSTOP under load: its batch runs elsewhere after the deadline, and nobody waits for it again."""
        with under_load(served) as failures:
            hanging = replicas_of(served)[0]
            os.kill(hanging, signal.SIGSTOP)
            wait_until(lambda: hanging not in replicas_of(served))
            wait_until(lambda: len(able(served)) == 2)

        assert failures == []

    def test_a_swap_under_load_loses_no_request(self, served: Server, models: tuple[Path, Path, Path]) -> None:
        """New versions are loaded first, then traffic moves."""
        with under_load(served) as failures:
            served.swap(served.name, {"2": models[1]})
            served.wait_for(served.name, 2, timeout_s=LONG_S)
            served.swap(served.name, {"1": models[0]})
            served.wait_for(served.name, 1, timeout_s=LONG_S)

        assert failures == []

    def test_a_damaged_model_leaves_the_old_one_serving(self, served: Server, models: tuple[Path, Path, Path]) -> None:
        """And the error names the file."""
        served.swap(served.name, {"3": models[2]})
        with pytest.raises(ServeError, match=models[2].name):
            served.wait_for(served.name, 3, timeout_s=LONG_S)

        assert _ask(served).version == "1"
        served.swap(served.name, {"1": models[0]})
        served.wait_for(served.name, 1, timeout_s=LONG_S)

    def test_a_model_in_python_comes_along(self, served: Server) -> None:
        """A class that replicas could not import; texts travel as well as numbers."""

        class Local(Tenfold):
            pass

        served.swap("Local", {"1": Local})
        served.wait_for("Local", 1, timeout_s=LONG_S)
        with Client(served.url) as client:
            found = client.infer("Local", {"x": np.full((2, 3), 4, np.float32)}, binary=False)

        assert found.outputs["tens"].tolist() == [[40.0] * 3] * 2
        assert found.outputs["words"].tolist() == ["row 0", "row 1"]

    def test_a_killed_front_finds_its_replicas_again(self, served: Server) -> None:
        """The supervisor starts it again, and replicas come to it with what they have loaded."""
        before, front = set(replicas_of(served)), served.pids()["front"]
        os.kill(front, signal.SIGKILL)
        wait_until(lambda: served.pids()["front"] not in (None, front))
        wait_until(lambda: _is_ready(served) and len(able(served)) == 2)

        assert set(replicas_of(served)) == before
        assert _ask(served).version == "1"


@contextmanager
def under_load(server: Server) -> Iterator[list[Exception]]:
    """Ask all the time, from some threads; yields what fails, to be looked at after the block."""
    stopping = threading.Event()
    failures: list[Exception] = []
    answered = [0] * NUM_CLIENTS

    def traffic(place: int) -> None:
        with Client(server.url, timeout_s=LONG_S) as client:
            while not stopping.is_set():
                try:
                    client.infer(server.name, _images(1 + place))
                except Exception as error:  # noqa: BLE001  # whatever it is, it is a request that was lost
                    failures.append(error)
                    return
                answered[place] += 1

    threads = [threading.Thread(target=traffic, args=(place,)) for place in range(NUM_CLIENTS)]
    for thread in threads:
        thread.start()
    try:
        wait_until(lambda: failures or all(answered))
        yield failures
        # What was disturbed must go on.
        before = list(answered)
        wait_until(lambda: failures or all(now > then for now, then in zip(answered, before, strict=True)))
    finally:
        stopping.set()
        for thread in threads:
            thread.join()


def wait_until(condition: Callable[[], object]) -> None:
    """Return when something has happened that other processes do; fail after `LONG_S`."""
    pause = threading.Event()
    deadline_s = time.monotonic() + LONG_S
    while not condition():
        assert time.monotonic() < deadline_s, "it did not happen"
        pause.wait(0.05)


def replicas_of(server: Server) -> list[int]:
    """Process ids of the replicas that run now."""
    return list(server.pids()["replicas"])


def able(server: Server) -> set[int]:
    """Process ids of the replicas that can take work."""
    try:
        return {replica["pid"] for replica in server.status()["replicas"] if replica["loaded"]}
    except ServeError:
        return set()


def _images(num_rows: int) -> dict[str, Any]:
    return {"image": np.resize(np.arange(251, dtype=np.uint8), (num_rows, 2, 2))}


def _again(server: Server, images: Any) -> Any:  # noqa: ANN401  # an array
    with Client(server.url) as client:
        return client.infer(server.name, {"image": images}).outputs["scores"]


def _ask(server: Server) -> InferResult:
    with Client(server.url) as client:
        return client.infer(server.name, _images(1))


def _is_ready(server: Server) -> bool:
    with Client(server.url) as client:
        return client.is_ready()
