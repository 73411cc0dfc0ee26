import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.base import ConfigError
from shoal.serve.versions.router import Shares

IDS = [f"request-{number}" for number in range(4000)]


@pytest.mark.parametrize("share", [0.05, 0.2, 0.5, 0.95])
def test_a_canary_gets_its_share(share):
    shares = Shares.of({"1": 1 - share, "2": share})

    found = sum(shares.version_for(each) == "2" for each in IDS) / len(IDS)

    assert found == pytest.approx(share, abs=0.04)


@given(st.text())
def test_an_id_always_goes_to_the_same_version(request_id):
    shares = Shares.of({"1": 0.5, "2": 0.5})

    assert shares.version_for(request_id) == shares.version_for(request_id)


def test_a_growing_canary_keeps_the_requests_it_had():
    small, large = Shares.of({"1": 0.9, "2": 0.1}), Shares.of({"1": 0.6, "2": 0.4})

    kept = [each for each in IDS if small.version_for(each) == "2"]

    assert all(large.version_for(each) == "2" for each in kept)


def test_the_first_version_is_the_main_one_whatever_its_share():
    assert Shares.of({"1": 0.2, "2": 0.8}).main == "1"


@pytest.mark.parametrize("shares", [{}, {"1": 0.5}, {"1": 1.5, "2": -0.5}, {"1": 1.0, "2": 0.0}])
def test_shares_that_are_no_division_are_refused(shares):
    with pytest.raises(ConfigError, match="sum to 1"):
        Shares.of(shares)
