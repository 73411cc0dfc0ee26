from datetime import UTC, datetime, timedelta

import pytest

from shoal.base import Clock, InputError, ManualClock, SystemClock


def test_system_clock_tells_utc():
    assert SystemClock().now().utcoffset() == timedelta(0)


def test_system_clock_never_goes_back():
    clock = SystemClock()

    readings = [clock.monotonic() for _ in range(100)]

    assert readings == sorted(readings)


def test_manual_clock_moves_both_readings_and_only_when_told():
    clock = ManualClock(datetime(2026, 5, 1, tzinfo=UTC))

    clock.advance(90)

    assert clock.now() == datetime(2026, 5, 1, 0, 1, 30, tzinfo=UTC)
    assert clock.monotonic() == 90


def test_manual_clock_refuses_to_run_back():
    with pytest.raises(InputError, match="-1"):
        ManualClock().advance(-1)


def test_both_are_clocks():
    clocks: list[Clock] = [SystemClock(), ManualClock()]

    assert all(clock.now().tzinfo is UTC for clock in clocks)
