import os

import pytest

from shoal.data.remote.disk_cache import Lease
from shoal.data.remote.holding import HeldLeases


@pytest.fixture
def lease(tmp_path):
    def make(name: str, size: int = 10) -> Lease:
        (tmp_path / name).write_bytes(bytes(size))
        return Lease(tmp_path / name, os.open(tmp_path / name, os.O_RDONLY), size)

    return make


def is_closed(lease):
    return not lease.close.alive


def test_the_oldest_is_given_back_beyond_the_limit(lease):
    held = HeldLeases(25)
    leases = [lease(name) for name in "abc"]
    for name, each in zip("abc", leases, strict=True):
        held.hold(name, each)

    assert [is_closed(each) for each in leases] == [True, False, False]
    assert held.get("b") is leases[1]


def test_the_last_one_stays_whatever_its_size(lease):
    held = HeldLeases(5)
    only = lease("a")

    held.hold("a", only)

    assert held.get("a") is only


def test_one_whose_file_is_gone_is_none(lease):
    held = HeldLeases(100)
    gone = lease("a")
    held.hold("a", gone)
    gone.path.unlink()

    assert held.get("a") is None


def test_released_is_closed(lease):
    held = HeldLeases(100)
    each = lease("a")
    held.hold("a", each)

    held.release("a")

    assert is_closed(each)
    assert held.get("a") is None
