import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("ray")

from shoal.base import ConfigError
from shoal.runtime import Code, Resources, open_runtime
from shoal.runtime.ray.placing import bundle_of, missing_room
from shoal.testing import members

AMOUNTS = st.integers(1, 8)


@pytest.mark.parametrize(
    ("need", "bundle"),
    [
        (Resources(), {"CPU": 1}),
        (Resources(cpus=0, gpus=2), {"GPU": 2}),
        (Resources(cpus=0), {"CPU": 0.001}),
        (Resources(cpus=2, memory_bytes=5), {"CPU": 2, "memory": 5}),
    ],
)
def test_a_bundle_asks_for_what_is_needed_and_never_for_nothing(need, bundle):
    assert bundle_of(need) == bundle


@given(nodes=st.lists(AMOUNTS, max_size=5), each=AMOUNTS, count=AMOUNTS)
def test_bundles_of_one_kind_fit_exactly_where_nodes_hold_so_many(nodes, each, count):
    room = sum(node // each for node in nodes)

    missing = missing_room([({"CPU": each}, count)], [{"CPU": node} for node in nodes])

    assert (missing is None) == (count <= room)


def test_kinds_that_fit_alone_may_not_fit_together():
    missing = missing_room([({"CPU": 2}, 1), ({"CPU": 1}, 2)], [{"CPU": 3}])

    assert missing == "the members need 4 CPU, the cluster has 3 CPU"


@pytest.mark.cluster
@pytest.mark.parametrize(("need", "found"), [(Resources(cpus=3), "0 of 2 members"), (Resources(gpus=1), "1 GPU each")])
def test_a_gang_that_can_never_be_placed_is_refused_at_once(ray_cluster, need, found):
    with pytest.raises(ConfigError, match=found):
        open_runtime("ray").gang({"worker": (Code.of(members.echo), 2, need)})
