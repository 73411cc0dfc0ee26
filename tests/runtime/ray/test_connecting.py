import pytest

pytest.importorskip("ray")

from shoal.runtime import Resources
from shoal.runtime.ray.connecting import actor_options, own_address


def test_an_actor_asks_for_what_its_member_needs():
    assert actor_options(Resources(cpus=2, gpus=0.5, memory_bytes=7)) == {
        "num_cpus": 2,
        "num_gpus": 0.5,
        "memory": 7,
        "max_restarts": 0,
    }


def test_a_client_of_a_cluster_elsewhere_is_found_on_the_way_to_it():
    assert own_address("ray://127.0.0.1:10001") == "127.0.0.1"


@pytest.mark.cluster
def test_on_a_node_the_address_is_the_nodes(ray_cluster):
    assert own_address(None) == ray_cluster.head_node.node_ip_address
