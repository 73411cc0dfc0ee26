import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.base import ConfigError
from shoal.runtime import Backoff, Resources


@pytest.mark.parametrize("wrong", [{"cpus": -1}, {"gpus": -0.5}, {"memory_bytes": -1}])
def test_resources_below_nothing_are_refused(wrong):
    with pytest.raises(ConfigError, match="less than nothing"):
        Resources(**wrong)


@pytest.mark.parametrize(
    "wrong", [{"initial_s": -1}, {"factor": 0.5}, {"initial_s": 2, "maximum_s": 1}, {"healthy_after_s": -1}]
)
def test_a_backoff_that_shrinks_or_is_negative_is_refused(wrong):
    with pytest.raises(ConfigError, match="not a back-off"):
        Backoff(**wrong)


@given(
    initial_s=st.floats(0, 100),
    factor=st.floats(1, 1e6),
    extra_s=st.floats(0, 1e6),
    failures=st.integers(1, 10**9),
)
def test_the_delay_grows_from_the_initial_to_the_maximum(initial_s, factor, extra_s, failures):
    backoff = Backoff(initial_s=initial_s, factor=factor, maximum_s=initial_s + extra_s)

    assert backoff.delay_s(1) == initial_s
    assert initial_s <= backoff.delay_s(failures) <= backoff.delay_s(failures + 1) <= backoff.maximum_s


def test_a_long_life_forgives_earlier_failures():
    backoff = Backoff(healthy_after_s=10)

    assert backoff.failures_after(5, lived_s=9.9) == 6
    assert backoff.failures_after(5, lived_s=10) == 1
