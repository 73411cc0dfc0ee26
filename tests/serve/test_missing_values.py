"""A row without a value, from JSON's null to the number that the preparation in the model's graph puts there."""

import json

import numpy as np
import pyarrow as pa
import pytest
from onnx import TensorProto, helper

import shoal.data
from shoal.data.prepare import Concatenate, Encode, Impute, Preparation, Standardise
from shoal.model import package
from shoal.serve import start
from shoal.serve.replicas.loading import load_model

# `height` had gaps in training and has a mask; `distance` had NaN, which its column of floats holds itself; nothing
# fills `weight`.
PREPARATION = Preparation(
    {
        "distance": [Impute("mean", indicator=True), Standardise()],
        "height": [Impute("constant", value=170.0)],
        "age": [Impute("median")],
        "weight": [Standardise()],
        "city": [Impute("most_frequent"), Encode(to="one_hot")],
        "features": Concatenate(["distance", "distance_missing", "height", "age", "weight", "city"]),
    }
)
GAPS = np.where(np.arange(100) % 4 == 1, np.nan, np.arange(100) / 7)
ROW = {"distance": 2.5, "height": 180.5, "age": 33, "weight": 70.0, "city": "Rom"}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    table = pa.table(
        {
            "distance": GAPS,
            "height": pa.array([180.0, None, 150.0, 160.0] * 25, pa.float32()),
            "age": np.arange(100),
            "weight": np.arange(100, dtype=np.float32),
            "city": pa.array(["Rom", "Łódź", None, "Rom"] * 25),
        }
    )
    return shoal.data.ingest(table, tmp_path_factory.mktemp("people") / "people").prepare(PREPARATION)


@pytest.fixture(scope="module")
def people(dataset, tmp_path_factory):
    """A package that gives what its preparation made of a row."""
    width = dataset.preparation.output_schema["features"].shape[0]
    given, seen = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", width]) for name in ("features", "seen")
    )
    graph = helper.make_graph([helper.make_node("Identity", ["features"], ["seen"])], "people", [given], [seen])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    raw = dataset.take(np.arange(50))
    folder = tmp_path_factory.mktemp("package") / "people"
    return package(model, example=raw, dataset=dataset, kind="regression", name="people", path=folder)


@pytest.fixture(scope="module")
def server(people):
    with start(people, port=0, replicas=1) as server:
        yield server


def ask(wire, body, path="/predict"):
    status, _, answer = wire.ask("POST", path, json.dumps(body).encode(), Content_Type="application/json")
    return status, json.loads(answer)


def prepared(dataset, row):
    """What training would have made of a row; None is NaN in a column of floats, else what the mask tells."""
    dtypes = {"distance": np.float64, "height": np.float32, "age": np.int64, "weight": np.float32, "city": object}
    batch = {name: np.array([np.nan if row[name] is None and name == "distance" else row[name] or 0], dtype)
             for name, dtype in dtypes.items()}  # fmt: skip
    masks = {f"{name}_mask": np.array([row[name] is not None]) for name in ("height", "city")}
    return dataset.preparation.apply(batch | masks)["features"][0]


def test_a_package_says_which_inputs_it_fills_without_a_mask(people):
    inputs = load_model(str(people.path)).interface.inputs

    assert [field.name for field in inputs if field.fills_nan] == ["distance"]
    assert {field.name for field in inputs} == {*ROW, "height_mask", "city_mask"}


def test_a_plain_file_fills_none(scorer):
    assert [field.fills_nan for field in load_model(str(scorer)).interface.inputs] == [False]


@pytest.mark.parametrize("missing", [(), ("distance",), ("height",), ("distance", "height", "city")])
def test_null_is_filled_as_in_training(server, dataset, connect, missing):
    row = ROW | dict.fromkeys(missing)

    status, answers = ask(connect(server.port), {"rows": [ROW, row]})

    assert status == 200, answers
    for sent, answer in zip((ROW, row), answers, strict=True):
        np.testing.assert_array_equal(np.array(answer["seen"], np.float32), prepared(dataset, sent))
    assert answers[1]["seen"][1] == float("distance" in missing)


@pytest.mark.parametrize("name", ["age", "weight"])
def test_null_is_refused_where_nothing_tells_or_fills_it(server, connect, name):
    status, answer = ask(connect(server.port), ROW | {name: None})

    assert (status, answer["field"], answer["found"]) == (400, name, "null")
    assert "null" not in answer["expected"]


def test_a_field_that_is_absent_is_refused_also_where_null_is_taken(server, connect):
    status, answer = ask(connect(server.port), {name: value for name, value in ROW.items() if name != "distance"})

    assert (status, answer["field"]) == (400, "distance")
    assert answer["expected"].endswith("or null for no value")


def test_the_document_says_where_null_is_taken(server, connect):
    _, _, body = connect(server.port).ask("GET", "/openapi.json")

    schema = json.loads(body)["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    row = schema["oneOf"][0]["properties"]
    assert {name for name in row if "null" in row[name]["type"]} == {"distance", "height", "city"}
