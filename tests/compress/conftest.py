"""A classifier that learned something, as an ONNX graph: int8 has an accuracy to lose, and no test needs torch."""

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

import shoal.data
from shoal.model import package

NUM_ROWS, NUM_FEATURES, NUM_CLASSES = 1200, 16, 4


@pytest.fixture(scope="session")
def rows():
    """Four clouds of points, apart from each other."""
    random = np.random.default_rng(0)
    centres = random.normal(size=(NUM_CLASSES, NUM_FEATURES)) * 2
    label = random.integers(0, NUM_CLASSES, size=NUM_ROWS)
    return {"x": (centres[label] + random.normal(size=(NUM_ROWS, NUM_FEATURES))).astype(np.float32), "label": label}


@pytest.fixture(scope="session")
def dataset(rows, tmp_path_factory):
    return shoal.data.ingest(rows, tmp_path_factory.mktemp("data") / "clouds")


@pytest.fixture(scope="session")
def graph(rows):
    """The nearest centre as two layers: logits are products with the centres, the hidden layer is random and wide."""
    random = np.random.default_rng(1)
    hidden = random.normal(size=(NUM_FEATURES, 64)).astype(np.float32)
    features = np.maximum(rows["x"] @ hidden, 0)
    targets = np.eye(NUM_CLASSES)[rows["label"]]
    weights = np.linalg.lstsq(features, targets * 8, rcond=None)[0].astype(np.float32)
    value = helper.make_tensor_value_info
    made = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "hidden"], ["a"], name="first"),
            helper.make_node("Relu", ["a"], ["b"], name="relu"),
            helper.make_node("MatMul", ["b", "weights"], ["logits"], name="second"),
        ],
        "clouds",
        [value("x", TensorProto.FLOAT, ["batch", NUM_FEATURES])],
        [value("logits", TensorProto.FLOAT, ["batch", NUM_CLASSES])],
        [numpy_helper.from_array(hidden, "hidden"), numpy_helper.from_array(weights, "weights")],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


@pytest.fixture(scope="session")
def packaged(graph, rows, dataset, tmp_path_factory):
    return package(
        graph,
        example=rows,
        name="clouds",
        path=tmp_path_factory.mktemp("packages") / "float",
        run="r-0001",
        dataset=dataset,
        profile_on=(dataset, dataset),
    )
