"""Replicas as actors of a Ray cluster: they hang and die, with their keepers and with their nodes."""

import signal

import psutil
import pytest

from shoal.base import ServeError
from shoal.runtime import Code, Resources, open_runtime
from shoal.serve import start
from shoal.testing import members
from shoal.testing.serving import MOST_BATCH_S, ServingContract, able, replicas_of, under_load, wait_until

pytestmark = pytest.mark.cluster


class TestRay(ServingContract):
    @pytest.fixture(scope="class")
    @classmethod
    def models(cls, contract_models):
        return contract_models

    @pytest.fixture(scope="class")
    @classmethod
    def served(cls, models, ray_cluster):
        with start(models[0], port=0, replicas=2, most_batch_s=MOST_BATCH_S, runtime="ray") as server:
            yield server

    def test_a_killed_actor_takes_its_replica_along_and_loses_no_request(self, served):
        with under_load(served) as failures:
            before = set(replicas_of(served))
            keeper_of(next(iter(before))).kill()
            wait_until(lambda: len(before & set(replicas_of(served))) == 1)
            wait_until(lambda: len(able(served)) == 2)

        assert failures == []

    def test_an_actor_that_hangs_is_replaced_with_its_replica(self, served):
        # Its keeper says nothing any more, as if the network between were cut.
        with under_load(served) as failures:
            hanging = replicas_of(served)[0]
            keeper_of(hanging).send_signal(signal.SIGSTOP)
            wait_until(lambda: hanging not in replicas_of(served))
            wait_until(lambda: len(able(served) - {hanging}) == 2)

        assert failures == []

    def test_status_tells_where_replicas_run(self, served):
        wait_until(lambda: len(able(served)) == 2)

        assert {replica["host"] for replica in served.status()["replicas"]} == {open_runtime("ray").address}


def test_a_node_that_goes_away_loses_no_request(ray_cluster, scorer):
    # More than one node has room for, so that some are on each.
    with start(scorer, port=0, replicas=3, runtime="ray") as server, under_load(server) as failures:
        wait_until(lambda: len(able(server)) == 3)
        before = set(replicas_of(server))
        lost = next(node for node in ray_cluster.worker_nodes if runs_any(node, before))
        ray_cluster.remove_node(lost, allow_graceful=False)
        ray_cluster.add_node(num_cpus=2)
        wait_until(lambda: not before <= set(replicas_of(server)))
        wait_until(lambda: len(able(server)) == 3)

    assert failures == []


def test_a_cluster_without_room_is_told(ray_cluster, scorer):
    full = {"guest": (Code.of(members.echo), 4, Resources())}
    with open_runtime("ray").gang(full), pytest.raises(ServeError, match=r"was not loaded within 2 s"):
        start(scorer, port=0, replicas=1, start_s=2.0, runtime="ray")


def keeper_of(pid):
    """The actor's process beside a replica."""
    return psutil.Process(pid).parent()


def runs_any(node, pids):
    """Whether a replica is the child of an actor that is a child of this node's daemon."""
    daemon = node.all_processes["raylet"][0].process.pid
    return any(keeper_of(pid).ppid() == daemon for pid in pids if psutil.pid_exists(pid))
