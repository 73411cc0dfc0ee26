import pytest

from shoal.base import ConfigError, UnsupportedError
from shoal.runtime import Code, LocalRuntime, Resources
from shoal.testing import RuntimeContract, members


class TestLocalRuntime(RuntimeContract):
    @pytest.fixture
    def runtime(self):
        return LocalRuntime()


def test_gpus_are_refused_rather_than_ignored(runtime):
    with pytest.raises(UnsupportedError, match="GPU"):
        runtime.gang({"worker": (Code.of(members.echo), 1, Resources(gpus=1))})


def test_an_empty_pool_is_refused(runtime):
    with pytest.raises(ConfigError, match="at least 1"):
        runtime.pool(0)


def test_an_empty_service_is_refused(runtime):
    with pytest.raises(ConfigError, match="at least 1"):
        runtime.service(Code.of(members.echo), 0)


def test_members_find_this_process_on_the_loopback(runtime):
    assert runtime.address == "127.0.0.1"


def test_the_doctests_of_the_interface_hold():
    import doctest

    from shoal.runtime import base, opening

    assert doctest.testmod(base).failed == 0
    assert doctest.testmod(opening).failed == 0
