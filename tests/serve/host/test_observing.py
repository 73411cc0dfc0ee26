import pytest

from shoal.base import ConfigError, ServeError, UnsupportedError
from shoal.serve.host.observing import find_access_log, find_traces


@pytest.fixture(autouse=True)
def no_variables(monkeypatch):
    for name in ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_SDK_DISABLED"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("given", "found"),
    [
        (None, None),
        ("http://here:4318", "http://here:4318/v1/traces"),
        ("http://here:4318/", "http://here:4318/v1/traces"),
        ("https://here/otlp/v1/traces", "https://here/otlp/v1/traces"),
    ],
)
def test_the_path_of_a_collector_is_known(given, found):
    assert find_traces(given) == found


@pytest.mark.parametrize("given", ["", "here:4318", "grpc://here:4317", "http://"])
def test_what_is_no_address_is_refused(given):
    with pytest.raises(ConfigError, match="expected http://HOST:PORT"):
        find_traces(given)


def test_the_environment_counts_where_the_user_says_nothing(monkeypatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://there:4318")

    assert find_traces(None) == "http://there:4318/v1/traces"
    assert find_traces("http://here:4318") == "http://here:4318/v1/traces"


def test_without_the_packages_the_user_is_told_and_the_environment_is_not_obeyed(monkeypatch, caplog):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://there:4318")

    assert find_traces(None) is None
    with pytest.raises(UnsupportedError, match="not installed"):
        find_traces("http://here:4318")

    assert "there are none" in caplog.text


def test_the_file_for_lines_is_made_and_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    assert find_access_log("lines") == str(tmp_path / "lines")
    assert (tmp_path / "lines").exists()


@pytest.mark.parametrize("given", [None, "-"])
def test_no_lines_and_stderr_need_no_file(given, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    assert find_access_log(given) == given
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_cannot_be_written_is_refused_at_once(tmp_path):
    with pytest.raises(ServeError, match="cannot write lines of requests to"):
        find_access_log(tmp_path / "nowhere" / "lines")
