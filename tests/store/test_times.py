from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, strategies

from shoal.base import InputError
from shoal.store.times import from_us, to_us


@given(strategies.datetimes(timezones=strategies.just(UTC)))
def test_every_instant_survives(time):
    assert from_us(to_us(time)) == time


def test_zone_does_not_count():
    noon = datetime(2026, 3, 1, 12, tzinfo=UTC)

    assert to_us(noon.astimezone(timezone(timedelta(hours=5)))) == to_us(noon)


def test_time_without_zone_is_refused():
    with pytest.raises(InputError, match="no zone"):
        to_us(datetime(2026, 3, 1))
