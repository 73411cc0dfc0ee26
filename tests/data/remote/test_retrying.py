import pytest

from shoal.base import ConfigError, ManualClock, RemoteError
from shoal.data.remote.retrying import RemoteSettings, Retrier, TransientError


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def retrier(clock):
    settings = RemoteSettings(deadline_s=10, first_pause_s=1, max_pause_s=4)
    return Retrier(settings, clock=clock, sleep=clock.advance, chance=lambda: 0.0)


def failing(times, seen):
    def attempt():
        seen.append(1)
        if len(seen) <= times:
            raise TransientError("the line went dead")
        return "data"

    return attempt


def test_a_failure_that_passes_is_not_seen(retrier):
    assert retrier.call("fetch x", failing(2, [])) == "data"


def test_pauses_double_up_to_the_longest(retrier, clock):
    pauses = []
    patient = Retrier(retrier.settings, clock=clock, sleep=pauses.append, chance=lambda: 0.0)

    patient.call("fetch x", failing(4, []))

    assert pauses == [1, 2, 4, 4]


def test_chance_shortens_a_pause_by_half_at_most(clock):
    pauses = []
    settings = RemoteSettings(first_pause_s=1)
    Retrier(settings, clock=clock, sleep=pauses.append, chance=lambda: 1.0).call("fetch x", failing(1, []))

    assert pauses == [0.5]


def test_at_the_deadline_the_error_names_url_attempts_cause_and_next_step(retrier):
    with pytest.raises(
        RemoteError, match=r"cannot fetch s3://b/x: 4 attempts in 7\.0 s .* the line went dead; next: ."
    ):
        retrier.call("fetch s3://b/x", failing(99, []))


def test_attempts_can_be_limited(retrier):
    seen: list[int] = []

    with pytest.raises(RemoteError, match="2 attempts"):
        retrier.call("fetch x", failing(99, seen), max_attempts=2)

    assert len(seen) == 2


def test_other_errors_are_not_repeated(retrier):
    def attempt():
        raise KeyError("x")

    with pytest.raises(KeyError):
        retrier.call("fetch x", attempt)


@pytest.mark.parametrize("name", ["deadline_s", "stall_s", "range_bytes"])
def test_settings_are_positive(name):
    with pytest.raises(ConfigError, match=name):
        RemoteSettings(**{name: 0})
