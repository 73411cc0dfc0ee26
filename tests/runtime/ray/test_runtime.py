import pytest

from shoal.base import ConfigError
from shoal.runtime import Code, open_runtime
from shoal.runtime.ray.connecting import own_address
from shoal.testing import GangContract, members
from shoal.testing.runtime import ServiceContract

pytestmark = pytest.mark.cluster


class TestRayGang(GangContract):
    @pytest.fixture
    def runtime(self, ray_cluster):
        return open_runtime("ray")


class TestRayService(ServiceContract):
    @pytest.fixture
    def runtime(self, ray_cluster):
        return open_runtime("ray")


@pytest.fixture
def runtime(ray_cluster):
    return open_runtime("ray")


def test_members_find_this_process_by_its_address_in_the_cluster(runtime):
    assert runtime.address == own_address(None)


def test_an_empty_pool_is_refused(runtime):
    with pytest.raises(ConfigError, match="at least 1"):
        runtime.pool(0)


def test_an_empty_service_is_refused(runtime):
    with pytest.raises(ConfigError, match="at least 1"):
        runtime.service(Code.of(members.echo), 0)
