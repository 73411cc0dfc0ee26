import pytest

from shoal.base import ConfigError
from shoal.runtime import LocalRuntime, open_runtime


def test_local_is_the_runtime_of_child_processes():
    assert isinstance(open_runtime("local"), LocalRuntime)


def test_a_runtime_is_itself():
    runtime = LocalRuntime()

    assert open_runtime(runtime) is runtime


def test_an_unknown_name_is_refused_with_the_known_ones():
    with pytest.raises(ConfigError, match=r"'lokal'.*local"):
        open_runtime("lokal")
