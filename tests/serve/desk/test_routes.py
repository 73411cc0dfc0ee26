import pytest

from shoal.serve.desk.routes import Route, find_route
from shoal.serve.wire.refusal import RefusedError


@pytest.mark.parametrize(
    ("method", "path", "route"),
    [
        ("GET", "/v2", Route("server")),
        ("GET", "/v2/", Route("server")),
        ("GET", "/v2/health/live", Route("live")),
        ("GET", "/v2/health/ready", Route("ready")),
        ("GET", "/v2/models/fashion", Route("model", "fashion")),
        ("GET", "/v2/models/fashion/ready", Route("model_ready", "fashion")),
        ("GET", "/v2/models/fashion/versions/3", Route("model", "fashion", "3")),
        ("POST", "/v2/models/fashion/infer", Route("infer", "fashion")),
        ("POST", "/v2/models/fashion/versions/3/infer", Route("infer", "fashion", "3")),
        ("POST", "/v2/models/a%20b/infer", Route("infer", "a b")),
        ("POST", "/v2/repository/index", Route("index")),
        ("POST", "/v2/repository/models/a%20b/load", Route("load", "a b")),
        ("POST", "/v2/repository/models/fashion/unload", Route("unload", "fashion")),
        ("GET", "/v2/models/fashion/config", Route("config", "fashion")),
        ("GET", "/v2/models/fashion/versions/3/config", Route("config", "fashion", "3")),
        ("GET", "/v2/models/fashion/stats", Route("statistics", "fashion")),
        ("GET", "/v2/models/stats", Route("statistics")),
        ("POST", "/predict", Route("predict")),
        ("POST", "/v2/models/fashion/predict", Route("predict", "fashion")),
        ("POST", "/v2/models/fashion/versions/3/predict", Route("predict", "fashion", "3")),
        ("GET", "/docs", Route("docs")),
        ("GET", "/openapi.json", Route("openapi")),
        ("GET", "/metrics", Route("metrics")),
        ("GET", "/status", Route("status")),
    ],
)
def test_every_path_of_the_protocol_is_known(method, path, route):
    assert find_route(method, path) == route


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/v1",
        "/v2/models",
        "/v2/models/a/b",
        "/v2/models/a/versions",
        "/v2/models/a/versions/1/x",
        "/v3/models/a",
        "/v2/repository",
        "/v2/repository/models/a",
        "/v2/repository/models/a/reload",
        "/predict/a",
    ],
)
def test_other_paths_are_404(path):
    with pytest.raises(RefusedError) as caught:
        find_route("GET", path)

    assert caught.value.status == 404


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [("GET", "/v2/models/a/infer", "POST"), ("POST", "/metrics", "GET"), ("DELETE", "/v2/models/a", "GET")],
)
def test_other_methods_are_405_and_say_which_is_right(method, path, allowed):
    with pytest.raises(RefusedError) as caught:
        find_route(method, path)

    assert (caught.value.status, caught.value.allow) == (405, allowed)
