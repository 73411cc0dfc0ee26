import pytest

from shoal.base import UnsupportedError
from shoal.runtime import Code, Member
from shoal.runtime.env.gang import EnvGang
from shoal.runtime.process import Child
from shoal.runtime.running import Launch
from shoal.testing import members


def test_nobody_is_added_to_given_processes():
    launch = Launch(
        member=Member("worker", 0), code=Code.of(members.echo), world_size=1, environment={}, log_folder=None
    )

    with EnvGang([launch], Child) as gang, pytest.raises(UnsupportedError, match="launcher"):
        gang.add("worker")
