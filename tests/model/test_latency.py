import pytest

from shoal.base import ConfigError
from shoal.model import measure_interleaved, measure_latency


def test_percentiles_are_in_order(packaged):
    found = measure_latency(packaged, repeats=20)

    assert 0 < found.p50_ms <= found.p99_ms
    assert found.metrics() == {
        "latency_p50_ms": found.p50_ms,
        "latency_p99_ms": found.p99_ms,
        "latency_mean_ms": found.mean_ms,
    }


def test_one_latency_per_package_in_order(packaged):
    assert len(measure_interleaved([packaged, packaged, packaged], batch_size=32, repeats=3)) == 3


@pytest.mark.parametrize("wrong", [{"batch_size": 0}, {"repeats": 0}])
def test_nothing_to_measure_is_refused(packaged, wrong):
    with pytest.raises(ConfigError, match="must be >= 1"):
        measure_latency(packaged, **wrong)
