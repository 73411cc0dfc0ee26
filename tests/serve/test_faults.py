"""Replicas that hang and die on this machine: over shared memory, and over sockets as on others."""

import os
import signal

import pytest

import shoal.serve.host.remote_replicas
from shoal.runtime import LocalRuntime
from shoal.serve import start
from shoal.testing.serving import MOST_BATCH_S, ServingContract, able, replicas_of, under_load, wait_until

pytestmark = pytest.mark.slow


class TestAtHome(ServingContract):
    @pytest.fixture(scope="class")
    @classmethod
    def models(cls, contract_models):
        return contract_models

    @pytest.fixture(scope="class")
    @classmethod
    def served(cls, models):
        with start(models[0], port=0, replicas=2, most_batch_s=MOST_BATCH_S) as server:
            yield server


@pytest.fixture
def as_on_a_cluster(monkeypatch):
    """The ways of a cluster, without one."""
    monkeypatch.setattr(shoal.serve.host.remote_replicas, "open_runtime", lambda _: LocalRuntime())


def test_two_fronts_share_replicas_over_sockets(as_on_a_cluster, scorer):
    with start(scorer, port=0, replicas=2, fronts=2, runtime="ray") as server, under_load(server) as failures:
        wait_until(lambda: len(able(server)) == 2)
        killed = set(replicas_of(server))
        for pid in killed:
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: len(able(server) - killed) == 2)

    assert failures == []


def test_a_server_that_sleeps_wakes_replicas_elsewhere(as_on_a_cluster, scorer):
    with start(scorer, port=0, replicas=(0, 1), sleep_after_s=0.5, runtime="ray") as server:
        wait_until(lambda: not replicas_of(server))
        with under_load(server) as failures:
            wait_until(lambda: able(server))

    assert failures == []


class TestOverSockets(ServingContract):
    """As on a cluster, without one."""

    @pytest.fixture(scope="class")
    @classmethod
    def models(cls, contract_models):
        return contract_models

    @pytest.fixture(scope="class")
    @classmethod
    def served(cls, models):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(shoal.serve.host.remote_replicas, "open_runtime", lambda _: LocalRuntime())
            with start(models[0], port=0, replicas=2, most_batch_s=MOST_BATCH_S, runtime="ray") as server:
                yield server
