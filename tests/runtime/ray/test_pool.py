import os
import signal

import pytest

from shoal.runtime import Resources, open_runtime
from shoal.testing import members
from shoal.testing.runtime import PoolContract

pytestmark = pytest.mark.cluster


class TestRayPool(PoolContract):
    @pytest.fixture
    def runtime(self, ray_cluster):
        return open_runtime("ray")


@pytest.fixture
def runtime(ray_cluster):
    return open_runtime("ray")


def test_a_pool_uses_several_nodes(runtime):
    with runtime.pool(2, Resources(cpus=2)) as pool:
        nodes = {future.result() for future in [pool.submit(node_id) for _ in range(2)]}

    assert len(nodes) == 2


def node_id():
    import ray

    return ray.get_runtime_context().get_node_id()


def test_the_environment_is_added(runtime):
    with runtime.pool(1, environment={"SHOAL_TEST_WORD": "there"}) as pool:
        assert pool.submit(os.getenv, "SHOAL_TEST_WORD").result() == "there"


def test_a_killed_worker_is_told(runtime):
    with runtime.pool(1) as pool:
        pid = pool.submit(members.own_pid).result()
        os.kill(pid, signal.SIGKILL)
        # The death may be seen before or after this task reaches the actor: only the next must be whole.
        pool.submit(members.own_pid).exception()

        assert pool.submit(members.own_pid).result() != pid
