import click
import pytest

from shoal.cli.typed import Duration, NumberOrRange, StepsOrDuration


@pytest.mark.parametrize(("typed", "meant"), [("4", 4), ("1-4", (1, 4)), ("2-2", (2, 2))])
def test_workers_are_a_number_or_a_range(typed, meant):
    assert NumberOrRange().convert(typed, None, None) == meant


@pytest.mark.parametrize("typed", ["", "0", "4-1", "0-4", "-3", "1-", "a-b", "1-2-3", "2.5"])
def test_what_is_neither_is_refused(typed):
    with pytest.raises(click.BadParameter, match="1-4"):
        NumberOrRange().convert(typed, None, None)


def test_where_a_range_is_needed_a_number_is_refused():
    with pytest.raises(click.BadParameter, match="not a range"):
        NumberOrRange(range_only=True).convert("64", None, None)


@pytest.mark.parametrize(("typed", "seconds"), [("90s", 90), ("1.5min", 90), ("6h", 21_600), ("7d", 604_800)])
def test_a_time_has_a_unit(typed, seconds):
    assert Duration().convert(typed, None, None) == seconds


@pytest.mark.parametrize("typed", ["90", "s", "1 h", "-3s", "1m"])
def test_a_time_without_one_is_refused(typed):
    with pytest.raises(click.BadParameter, match="90s, 15min"):
        Duration().convert(typed, None, None)


def test_steps_are_whole_and_times_are_not():
    steps, seconds = (StepsOrDuration().convert(typed, None, None) for typed in ("500", "10min"))

    assert (steps, type(steps)) == (500, int)
    assert (seconds, type(seconds)) == (600.0, float)


def test_every_no_steps_is_refused():
    with pytest.raises(click.BadParameter, match="leave the option out"):
        StepsOrDuration().convert("0", None, None)
