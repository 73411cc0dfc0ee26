"""A small classifier as an ONNX graph, so that most tests need neither torch nor an export."""

import shutil

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import shoal.data
from shoal.model import open_package, package

SIDE, NUM_CLASSES = 4, 3


def make_classifier(*, seed=0, batch="batch", final=()):
    """image uint8 [batch, 4, 4] -> logits float32 [batch, 3]; `final` nodes are appended between "logits" and "out"."""
    weights = np.random.default_rng(seed).normal(size=(SIDE * SIDE, NUM_CLASSES)).astype(np.float32)
    nodes = [
        helper.make_node("Cast", ["image"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["floats", "scale"], ["scaled"]),
        helper.make_node("Flatten", ["scaled"], ["flat"], axis=1),
        helper.make_node("MatMul", ["flat", "weights"], ["logits"]),
        *final,
    ]
    graph = helper.make_graph(
        nodes,
        "classifier",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, [batch, SIDE, SIDE])],
        [helper.make_tensor_value_info("out" if final else "logits", TensorProto.FLOAT, [batch, NUM_CLASSES])],
        [
            numpy_helper.from_array(np.float32(255), "scale"),
            numpy_helper.from_array(weights, "weights"),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


@pytest.fixture
def make_graph():
    return make_classifier


@pytest.fixture
def graph() -> onnx.ModelProto:
    return make_classifier()


@pytest.fixture(scope="session")
def images():
    return np.random.default_rng(1).integers(0, 256, size=(20, SIDE, SIDE), dtype=np.uint8)


@pytest.fixture(scope="session")
def made_once(images, tmp_path_factory):
    path = tmp_path_factory.mktemp("packages") / "tiny"
    return package(make_classifier(), example={"image": images}, name="tiny", path=path, metrics={"accuracy": 0.9})


@pytest.fixture
def packaged(made_once, tmp_path):
    """A package that the test may damage: a copy, which is a tenth of the time of making one."""
    return open_package(shutil.copytree(made_once.path, tmp_path / "tiny"))


@pytest.fixture
def rows(images):
    """600 rows: enough for several shards and parts, few enough for a fast test."""
    random = np.random.default_rng(2)
    return {
        "id": np.arange(600),
        "image": random.integers(0, 256, size=(600, SIDE, SIDE), dtype=np.uint8),
        "label": random.integers(0, NUM_CLASSES, size=600),
    }


@pytest.fixture
def dataset(rows, tmp_path):
    return shoal.data.ingest(rows, tmp_path / "rows", key="id", num_shards=3)
