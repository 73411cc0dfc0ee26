import pytest

from shoal.base import ConfigError
from shoal.serve.host.settings import ServeSettings


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


@pytest.mark.parametrize("runtime", ["", "env", "Ray", "spark", "rays://x"])
def test_a_runtime_that_there_is_not_is_refused(runtime):
    with pytest.raises(ConfigError, match=f"{runtime!r}"):
        ServeSettings(runtime=runtime)


@pytest.mark.parametrize("runtime", ["local", "ray", "ray://head:10001"])
def test_replicas_run_here_or_on_a_cluster(runtime):
    assert ServeSettings(runtime=runtime).runtime == runtime


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


@pytest.mark.parametrize("rule", [{"log_sample": 0.1}, {"log_drop": ("pixels",)}])
def test_a_rule_for_a_log_that_is_not_kept_is_refused(rule, tmp_path):
    with pytest.raises(ConfigError, match="predictions are not logged"):
        ServeSettings(**rule)

    assert ServeSettings(**rule, log_folder=tmp_path).seeing(tmp_path).rule.drop == rule.get("log_drop", ())


@pytest.mark.parametrize("share", [0.0, 1.5, float("nan")])
def test_an_impossible_share_of_the_log_is_refused(share, tmp_path):
    with pytest.raises(ConfigError, match=f"log_sample={share}"):
        ServeSettings(log_sample=share, log_folder=tmp_path)


@pytest.mark.parametrize("share", [-0.1, 1.5, float("nan")])
def test_an_impossible_share_of_traces_is_refused(share):
    with pytest.raises(ConfigError, match=f"trace_sample={share}"):
        ServeSettings(trace_sample=share, traces="http://here:4318/v1/traces")


def test_a_share_of_traces_that_go_nowhere_is_refused():
    with pytest.raises(ConfigError, match="nothing says where traces go"):
        ServeSettings(trace_sample=0.5)


def test_lines_for_stderr_go_through_the_pipe(tmp_path):
    pipe = tmp_path / "pipe"

    assert ServeSettings(access_log="-").seeing(pipe).access_log == str(pipe)
    assert ServeSettings(access_log="/var/log/shoal").seeing(pipe).access_log == "/var/log/shoal"
    assert ServeSettings().seeing(pipe).access_log is None
