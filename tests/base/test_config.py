import pickle
from pathlib import Path

import pytest

from shoal.base import (
    ConfigError,
    InputError,
    NotFoundError,
    Secret,
    Settings,
    config,
    encode,
    environment,
    find_home,
    launcher_variables,
    load_settings,
    secret,
    traces_endpoint,
)


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in config.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


def write_toml(folder: Path, text: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "shoal.toml").write_text(text)


def test_nothing_set_means_defaults():
    resolved = load_settings()

    assert resolved.settings == Settings()
    assert set(resolved.sources.values()) == {"default"}


def test_later_source_wins_and_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write_toml(tmp_path, '# all three\nstore = "sqlite:///a"\nthreads = 1\nhome = "place"\n')
    monkeypatch.setenv("SHOAL_STORE", "sqlite:///b")
    monkeypatch.setenv("SHOAL_THREADS", "2")

    resolved = load_settings({"threads": 3, "store": None})

    assert resolved.settings == Settings(store="sqlite:///b", threads=3, home=tmp_path / "place")
    assert resolved.sources == {
        "store": "SHOAL_STORE",
        "threads": "flag",
        "home": "shoal.toml:4",
        "cache_bytes": "default",
    }


def test_nearest_file_upwards_counts(tmp_path: Path):
    write_toml(tmp_path, "threads = 1")
    write_toml(tmp_path / "a", "threads = 2")
    (tmp_path / "a" / "b").mkdir()

    assert load_settings(start=tmp_path / "a" / "b").settings.threads == 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("thread = 1", "did you mean 'threads'"),
        ("threads = 0", "must be >= 1"),
        ("cache_bytes = 0", "must be >= 1"),
        ("threads = true", "not a whole number"),
        ('threads = "two"', "not a whole number"),
        ("store = 5", "not text"),
        ("store = ", "cannot read"),
    ],
)
def test_bad_file_is_refused_with_reason(tmp_path: Path, text: str, said: str):
    write_toml(tmp_path, text)

    with pytest.raises(ConfigError, match=said):
        load_settings()


def test_unknown_flag_is_refused_with_the_nearest():
    with pytest.raises(ConfigError, match="did you mean 'store'"):
        load_settings({"stores": "x"})


def test_mistyped_variable_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SHOAL_STOER", "x")

    with pytest.raises(ConfigError, match="did you mean 'SHOAL_STORE'"):
        load_settings()


def test_foreign_variable_is_left_alone(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SHOAL_FISHING_QUOTA", "x")

    assert load_settings().settings == Settings()


def test_home_is_found_upwards(tmp_path: Path):
    (tmp_path / ".shoal").mkdir()
    (tmp_path / "deep" / "er").mkdir(parents=True)

    assert find_home(tmp_path / "deep" / "er") == tmp_path / ".shoal"


def test_home_that_is_not_there_is_an_error_or_made(tmp_path: Path):
    with pytest.raises(NotFoundError, match=str(tmp_path)):
        find_home(tmp_path)

    assert find_home(tmp_path, create=True) == tmp_path / ".shoal"
    assert (tmp_path / ".shoal").is_dir()


def test_variable_overrides_where_home_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / ".shoal").mkdir()
    monkeypatch.setenv("SHOAL_HOME", str(tmp_path / "other"))

    with pytest.raises(NotFoundError, match="other"):
        find_home(tmp_path)
    assert find_home(tmp_path, create=True) == tmp_path / "other"


def test_only_listed_variables_are_read():
    assert environment("SHOAL_FASHION_MNIST") is None
    with pytest.raises(ConfigError, match="SHOAL_OTHER"):
        environment("SHOAL_OTHER")


def test_fewer_than_ten_variables():
    assert len(config.VARIABLES) < 10


def test_secret_comes_from_variable_or_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "key").write_text("from file\n")
    monkeypatch.setenv("SHOAL_SECRET_API_KEY_FILE", str(tmp_path / "key"))
    assert secret("api-key").reveal() == "from file"

    monkeypatch.setenv("SHOAL_SECRET_API_KEY", "from variable")
    assert secret("api_key").reveal() == "from variable"


@pytest.mark.parametrize("text", [None, "", "missing", "empty"])
def test_missing_secret_names_the_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None):
    (tmp_path / "empty").touch()
    if text is not None:
        monkeypatch.setenv("SHOAL_SECRET_KEY_FILE", str(tmp_path / text) if text else "")

    with pytest.raises(NotFoundError, match="SHOAL_SECRET_KEY"):
        secret("key")


def test_secret_never_shows():
    hidden = Secret("hunter2")

    assert "hunter2" not in f"{hidden} {hidden!r} {hidden!s} {[hidden]}"
    for leak in (pickle.dumps, hash):
        with pytest.raises(TypeError):
            leak(hidden)
    with pytest.raises(InputError):
        encode({"key": hidden})


def test_secrets_compare_by_value():
    assert Secret("a") == Secret("a")
    assert Secret("a") != Secret("b")
    assert Secret("a") != "a"


def test_what_a_launcher_says_is_read_and_nothing_else(monkeypatch):
    for name in launcher_variables():
        monkeypatch.delenv(name)
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setenv("SLURM_JOB_ID", "")

    assert launcher_variables() == {"RANK": "3"}


ENDPOINT, TRACES = "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"


@pytest.mark.parametrize(
    ("variables", "endpoint"),
    [
        ({}, None),
        ({ENDPOINT: ""}, None),
        ({ENDPOINT: "http://here:4318/"}, "http://here:4318/v1/traces"),
        ({ENDPOINT: "http://here:4318", TRACES: "http://there/spans"}, "http://there/spans"),
        ({ENDPOINT: "http://here:4318", "OTEL_SDK_DISABLED": "True"}, None),
        ({ENDPOINT: "http://here:4318", "OTEL_TRACES_EXPORTER": "none"}, None),
        ({ENDPOINT: "http://here:4317", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, None),
        ({ENDPOINT: "http://here:4318", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}, "http://here:4318/v1/traces"),
    ],
)
def test_traces_go_where_opentelemetrys_variables_say(monkeypatch, variables, endpoint):
    for name in (ENDPOINT, TRACES, "OTEL_SDK_DISABLED", "OTEL_TRACES_EXPORTER", "OTEL_EXPORTER_OTLP_PROTOCOL"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    assert traces_endpoint() == endpoint
