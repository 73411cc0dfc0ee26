import itertools

import pytest

pytest.importorskip("ray")

from shoal.runtime.ray import hosting
from shoal.runtime.ray.connecting import own_address
from shoal.runtime.ray.hosting import RayHost
from shoal.runtime.remote.reception import Reception

pytestmark = pytest.mark.cluster

numbers = itertools.count()


@pytest.fixture
def reception(ray_cluster):
    reception = Reception(own_address(None))
    yield reception
    reception.close()


def test_an_actor_calls_and_goes_when_it_is_released(reception):
    host = RayHost(reception, next(numbers), {"num_cpus": 1, "max_restarts": 0})
    line = host.connect()

    host.release()

    assert line.read() is None
    line.close()


def test_an_actor_that_never_gets_through_says_why(reception, monkeypatch):
    monkeypatch.setattr(hosting, "_MAX_STARTS", 1)
    reception.close()

    host = RayHost(reception, next(numbers), {"num_cpus": 1, "max_restarts": 0})

    assert host.connect() is None
    assert "refused" in host.explain()
