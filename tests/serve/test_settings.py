import pytest

from shoal.base import ConfigError
from shoal.serve.settings import ServeSettings


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("replicas", 0),
        ("target_ms", 0.0),
        ("target_ms", float("nan")),
        ("port", -1),
        ("port", 65536),
        ("most_wait_s", -1.0),
        ("most_body_bytes", 0),
        ("drain_s", -0.1),
        ("start_s", 0.0),
        ("most_batch_s", 0.0),
        ("sleep_after_s", 0.0),
        ("fronts", 0),
        ("most_connections", 0),
    ],
)
def test_an_impossible_setting_is_refused_by_name_and_value(field, value):
    with pytest.raises(ConfigError, match=f"{field}={value}"):
        ServeSettings(**{field: value})


def test_the_defaults_hold():
    assert ServeSettings().replicas == 2


@pytest.mark.parametrize("replicas", [(-1, 2), (3, 2), (0, 0)])
def test_an_impossible_range_of_replicas_is_refused(replicas):
    with pytest.raises(ConfigError, match="0 <= least <= most"):
        ServeSettings(replicas=replicas)


@pytest.mark.parametrize(("replicas", "least", "most"), [(2, 2, 2), ((0, 4), 0, 4), ((1, 1), 1, 1)])
def test_replicas_are_a_number_or_a_range(replicas, least, most):
    settings = ServeSettings(replicas=replicas)

    assert (settings.least_replicas, settings.most_replicas) == (least, most)
