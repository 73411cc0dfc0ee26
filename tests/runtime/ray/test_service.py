import pytest

pytest.importorskip("ray")

from shoal.runtime import Code, Resources, open_runtime
from shoal.testing import members

pytestmark = pytest.mark.cluster


def test_a_service_that_does_not_wait_begins_without_room(ray_cluster):
    runtime = open_runtime("ray")
    with runtime.service(Code.of(members.echo), 1, Resources(cpus=1000), waits=False) as service:
        service.add()

        assert service.pids() == {}


def test_a_service_that_waits_is_there(ray_cluster):
    with open_runtime("ray").service(Code.of(members.echo), 1) as service:
        assert list(service.pids()) == [0]
