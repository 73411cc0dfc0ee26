import numpy as np
import onnx
import pytest

from shoal.data.prepare import Encode, Preparation
from shoal.data.prepare.onnx_graph import OnnxGraph


def test_only_standard_operators_are_used(rentals_preparation, make_rentals):
    model = rentals_preparation.fit([make_rentals(500)]).to_onnx()

    assert {node.domain for node in model.graph.node} == {"", "ai.onnx.ml"}
    onnx.checker.check_model(model, full_check=True)


@pytest.mark.parametrize("opset", [18, 20, 22])
def test_later_opsets_serve_too(rentals_preparation, make_rentals, opset):
    model = rentals_preparation.fit([make_rentals(500)]).to_onnx(opset=opset)

    onnx.checker.check_model(model, full_check=True)
    assert {each.domain: each.version for each in model.opset_import}[""] == opset


def test_inputs_bear_the_raw_names_and_outputs_the_prepared_ones():
    batch = {"t": np.array(["a"], object), "t_mask": np.array([True]), "n": np.zeros((1, 2), np.uint8)}
    from shoal.data.prepare import Impute

    model = Preparation({"t": [Impute("constant", ""), Encode()]}).fit([batch]).to_onnx()

    assert [each.name for each in model.graph.input] == ["t_mask", "t", "n"]
    assert [each.name for each in model.graph.output] == ["prepared.n", "prepared.t"]


def test_equal_constants_are_stored_once():
    graph = OnnxGraph(opset=18, ir_version=10)

    assert graph.constant(np.float32(1)) == graph.constant(np.array(1, np.float32)) != graph.constant(np.float64(1))
