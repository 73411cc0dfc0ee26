import pytest

from shoal.base import ConfigError
from shoal.serve.batching.admission import AdmissionLimits, Load, check_deadline, decide, draining

LIMITS = AdmissionLimits(most_wait_s=0.5, most_requests=10, most_bytes=1000)


@pytest.mark.parametrize(
    "load", [Load(0, 0, 0.0, 2), Load(9, 999, 0.99, 2), Load(9, 0, 99.0, 0)], ids=["empty", "full", "restarting"]
)
def test_what_fits_is_let_in(load):
    assert decide(load, LIMITS) is None


@pytest.mark.parametrize(
    ("load", "reason"),
    [
        (Load(5, 0, 2.0, 2), "it would wait about 1.00 s, more than 0.5 s"),
        (Load(10, 0, 0.0, 2), "10 requests are waiting"),
        (Load(10, 0, 0.0, 0), "10 requests are waiting"),
        (Load(1, 1000, 0.0, 2), "1000 bytes of requests are held"),
    ],
)
def test_what_would_wait_too_long_or_finds_no_room_is_refused_with_a_time(load, reason):
    refused = decide(load, LIMITS)

    assert refused.status == 503
    assert reason in refused.message
    assert refused.retry_after_s > 0


def test_retry_after_is_when_the_wait_will_be_short_enough():
    assert decide(Load(5, 0, 5.0, 2), LIMITS).retry_after_s == pytest.approx(2.0)


def test_a_stopping_server_closes_the_connection_too():
    refused = draining()

    assert (refused.status, refused.closes) == (503, True)


@pytest.mark.parametrize("limits", [{"most_wait_s": 0}, {"most_requests": 0}, {"most_bytes": 0}])
def test_limits_that_let_nothing_in_are_refused(limits):
    with pytest.raises(ConfigError, match="lets nothing in"):
        AdmissionLimits(**limits)


@pytest.mark.parametrize(("own_s", "left_s"), [(0.1, 0.6), (0.0, 0.5), (9.0, float("inf"))])
def test_what_will_be_answered_in_its_time_is_let_in(own_s, left_s):
    assert check_deadline(Load(5, 0, 1.0, 2), own_s, left_s) is None


def test_what_would_be_answered_too_late_is_refused_with_when_it_would_not():
    refused = check_deadline(Load(5, 0, 1.0, 2), 0.1, 0.4)

    assert refused.status == 503
    assert "answered in about 600.0 ms, and has 400.0 ms" in refused.message
    assert refused.retry_after_s == pytest.approx(0.2)
