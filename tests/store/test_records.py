import dataclasses
from datetime import UTC, datetime
from pathlib import Path

import pytest

from shoal.base import InputError, is_handle
from shoal.store import ModelVersion
from shoal.store.records import make_point

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def test_version_is_a_handle():
    version = ModelVersion(name="fashion", version=3, digest="b3:1", path=Path("x"), run=None, metrics={}, created=NOON)

    assert is_handle(version)
    assert (version.kind, version.address, version.digest) == ("model_version", "fashion@3", "b3:1")
    with pytest.raises(dataclasses.FrozenInstanceError):
        version.version = 4


def test_point_has_plain_parts():
    point = make_point("loss", True, 2.0, NOON)

    assert (type(point.value), type(point.step)) == (float, int)


@pytest.mark.parametrize(("value", "step"), [("x", 0), (None, 0), (1.0, None), (1.0, float("nan")), (10**400, 0)])
def test_point_of_no_number_is_refused(value, step):
    with pytest.raises(InputError, match="'loss'"):
        make_point("loss", value, step, NOON)


@pytest.mark.parametrize("step", [2**63, -(2**63) - 1])
def test_step_has_64_bits(step):
    with pytest.raises(InputError, match=r"2\*\*63"):
        make_point("loss", 1.0, step, NOON)
