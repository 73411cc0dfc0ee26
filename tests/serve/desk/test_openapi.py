import json

import jsonschema
import pytest

from shoal.serve.desk.openapi import document, main_versions
from shoal.serve.desk.routes import find_route
from shoal.serve.links.channel import Loaded
from shoal.serve.links.messages import ModelPlan
from shoal.serve.versions.models import Models
from shoal.serve.versions.router import Shares
from shoal.serve.wire.interface import Interface, TensorField
from shoal.serve.wire.predicting import predicting_for

PEOPLE = Interface(
    (
        TensorField("age", "INT64", (None,)),
        TensorField("age_mask", "BOOL", (None,)),
        TensorField("x", "FP32", (None, 2)),
    ),
    (TensorField("y", "FP32", (None,)),),
    batched=True,
)


@pytest.fixture
def models(interface):
    models = Models()
    for name, each in (("first", interface), ("a b", PEOPLE)):
        models.plan[name] = ModelPlan({"1": "/1"}, {"1": 1.0})
        models.shares[name] = Shares.of({"1": 1.0})
        models.add(Loaded(name, "1", "/1", each, [(1, 0.001)], "unknown"))
    models.plan["loading"] = ModelPlan({"1": "/1"}, {"1": 1.0})
    return models


def operations(models):
    for path, methods in document(models, has_key=False)["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


def body_schema(models, path):
    content = document(models, has_key=False)["paths"][path]["post"]["requestBody"]["content"]
    return content["application/json"]["schema"]


def test_every_path_in_it_is_one_that_is_answered(models):
    for method, path, _ in operations(models):
        assert find_route(method, path.replace("{version}", "1").replace("{model}", "m")).kind


def test_operations_have_names_of_their_own(models):
    names = [operation["operationId"] for _, _, operation in operations(models)]

    assert len(names) == len(set(names))


def test_models_that_are_not_loaded_are_not_in_it(models):
    assert [name for name, _ in main_versions(models)] == ["first", "a b"]
    assert not any("loading" in path for _, path, _ in operations(models))


def test_predict_is_the_default_models_where_there_is_one(models):
    models.default = "a b"

    assert body_schema(models, "/predict") == body_schema(models, "/v2/models/a%20b/predict")


def test_predict_is_not_in_it_while_its_model_is_loading(models):
    models.default = "loading"

    assert "/predict" not in document(models, has_key=False)["paths"]


def test_predict_is_the_first_models(models):
    assert body_schema(models, "/predict") == body_schema(models, "/v2/models/first/predict")


@pytest.mark.parametrize("path", ["/v2/models/first/predict", "/v2/models/a%20b/versions/{version}/predict"])
def test_the_example_keeps_the_schema(models, path):
    operation = document(models, has_key=False)["paths"][path]["post"]["requestBody"]["content"]["application/json"]

    jsonschema.validate(operation["example"], operation["schema"])


@pytest.mark.parametrize(
    ("row", "is_good"),
    [
        ({"age": 3, "x": [1, 2.5]}, True),
        ({"age": None, "x": [1, 2]}, True),
        ({"age": 3, "x": None}, False),
        ({"age": 3, "x": [1]}, False),
        ({"age": 2**63, "x": [1, 2]}, False),
        ({"age": "3", "x": [1, 2]}, False),
        ({"age": 3, "x": [1, 2], "more": 1}, False),
        ({"x": [1, 2]}, False),
        ({"rows": [{"age": 3, "x": [1, 2]}] * 3}, True),
        ({"rows": []}, False),
    ],
)
def test_the_schema_says_what_the_server_takes(models, row, is_good):
    validator = jsonschema.Draft202012Validator(body_schema(models, "/v2/models/a%20b/predict"))

    assert validator.is_valid(row) == is_good
    if is_good:
        assert predicting_for(PEOPLE).form.decode(json.dumps(row).encode())


def test_pictures_are_in_it_where_the_model_takes_them(models):
    contents = {
        path: set(operation["requestBody"]["content"])
        for _, path, operation in operations(models)
        if path.endswith("/predict")
    }

    assert contents["/predict"] == {"application/json", "image/jpeg", "image/png", "multipart/form-data"}
    assert contents["/v2/models/a%20b/predict"] == {"application/json"}


def test_a_key_is_in_it_where_one_is_needed(models):
    without, found = document(models, has_key=False), document(models, has_key=True)

    assert "security" not in without
    assert "401" not in without["paths"]["/predict"]["post"]["responses"]
    assert found["security"] == [{"key": []}, {"bearer": []}]
    assert "401" in found["paths"]["/predict"]["post"]["responses"]


def test_health_needs_no_key(models):
    for path in ("/v2/health/live", "/v2/health/ready"):
        operation = document(models, has_key=True)["paths"][path]["get"]

        assert operation["security"] == []
        assert "401" not in operation["responses"]


def test_a_form_holds_one_file_under_either_name(models):
    content = document(models, has_key=False)["paths"]["/predict"]["post"]["requestBody"]["content"]
    validator = jsonschema.Draft202012Validator(content["multipart/form-data"]["schema"])

    assert validator.is_valid({"file": "x"})
    assert validator.is_valid({"image": "x"})
    assert not validator.is_valid({"file": "x", "image": "x"})
    assert not validator.is_valid({"picture": "x"})
    assert not validator.is_valid({})


def test_what_is_not_ready_says_so_as_documented(models, house):
    exchange = house.ask(b"", path="/v2/health/ready", method="GET")
    paths = document(models, has_key=False)["paths"]
    schema = paths["/v2/health/ready"]["get"]["responses"]["503"]["content"]["application/json"]["schema"]

    assert exchange.answered_status == 503
    jsonschema.validate(json.loads(exchange.answered.partition(b"\r\n\r\n")[2]), schema["anyOf"][0])
