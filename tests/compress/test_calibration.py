import onnx
import pytest

from shoal.base import PackageError
from shoal.compress.calibration import VARIANTS, quantized_graphs


def test_every_variant_computes_in_int8(packaged, rows):
    found = dict(quantized_graphs(packaged, {"x": rows["x"][:200]}))

    assert set(found) == set(VARIANTS)
    for graph in found.values():
        weights = {item.name: item.data_type for item in graph.graph.initializer}
        assert onnx.TensorProto.INT8 in weights.values()


def test_probabilities_stay_in_float(packaged, rows):
    for _, graph in quantized_graphs(packaged, {"x": rows["x"][:200]}):
        producers = {name: node.op_type for node in graph.graph.node for name in node.output}
        assert producers["scores"] == "Softmax"


def test_weights_leave_room_for_every_machine(packaged, rows):
    for _, graph in quantized_graphs(packaged, {"x": rows["x"][:200]}):
        int8 = [onnx.numpy_helper.to_array(item) for item in graph.graph.initializer if item.data_type == 3]
        assert max(abs(values.astype(int)).max() for values in int8) <= 64


def test_what_cannot_be_quantised_is_refused_with_the_cause(packaged):
    with pytest.raises(PackageError, match="cannot quantise"):
        list(quantized_graphs(packaged, {"wrong": packaged.examples()[0]["x"]}))
