"""Workers fail on a Ray cluster, with their actors and their nodes."""

import psutil
import pytest

from shoal.testing.faults import FaultContract, of_kind

pytestmark = pytest.mark.cluster


class TestRay(FaultContract):
    @pytest.fixture
    def runtime(self, ray_cluster):
        return "ray"

    def test_a_killed_node_takes_its_workers_along(self, disturb, ray_cluster):
        def strike(pids):
            lost = next(node for node in ray_cluster.worker_nodes if runs_any(node, pids))
            ray_cluster.remove_node(lost, allow_graceful=False)
            ray_cluster.add_node(num_cpus=2)

        _, events = disturb(strike)

        assert of_kind(events, "worker_lost")
        assert of_kind(events, "rewound") == []


def runs_any(node, pids):
    """Whether a worker is the child of an actor that is a child of this node's daemon."""
    daemon = node.all_processes["raylet"][0].process.pid
    return any(psutil.Process(pid).parent().ppid() == daemon for pid in pids)
