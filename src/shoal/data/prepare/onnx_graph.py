"""The nodes of a preparation as an ONNX model; the one file here that knows onnx."""

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

_ML_DOMAIN, _ML_VERSION = "ai.onnx.ml", 3
_PREFIX = "prepared"


class OnnxGraph:
    """Collects nodes, then gives the model. Its own tensors are called "prepared/<number>", so none meets a model's."""

    def __init__(self, *, opset: int, ir_version: int) -> None:
        self._opset, self._ir_version = opset, ir_version
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[bytes, onnx.TensorProto] = {}
        self._inputs: dict[str, onnx.ValueInfoProto] = {}
        self._outputs: list[onnx.ValueInfoProto] = []
        self._domains = {"": opset}

    def input(self, name: str, dtype: str, row_shape: tuple[int, ...]) -> str:
        """Add an input [batch, *row_shape], once, and return its name."""
        self._inputs.setdefault(name, helper.make_tensor_value_info(name, _type(dtype), ["batch", *row_shape]))
        return name

    def output(self, name: str, tensor: str, dtype: str, row_shape: tuple[int, ...]) -> None:
        """Give a tensor under a name."""
        self._nodes.append(helper.make_node("Identity", [tensor], [name], name=name))
        self._outputs.append(helper.make_tensor_value_info(name, _type(dtype), ["batch", *row_shape]))

    def add(self, operator: str, *inputs: str, domain: str = "", **attributes: object) -> str:
        """Add a node with one output, and return that."""
        if domain:
            self._domains[domain] = _ML_VERSION
        plain: dict[str, Any] = {
            name: _type(str(value)) if name == "to" else value for name, value in attributes.items()
        }
        name = f"{_PREFIX}/{len(self._nodes)}"
        self._nodes.append(helper.make_node(operator, list(inputs), [name], name=name, domain=domain, **plain))
        return name

    def constant(self, value: NDArray[Any] | np.generic) -> str:
        """Add a constant, once for all who need the same one, and return its name."""
        array = np.asarray(value)
        tensor = numpy_helper.from_array(array)
        key = tensor.SerializeToString(deterministic=True)
        if key not in self._constants:
            tensor.name = f"{_PREFIX}/constant{len(self._constants)}"
            self._constants[key] = tensor
        return str(self._constants[key].name)

    def model(self) -> onnx.ModelProto:
        """Return the model, checked."""
        graph = helper.make_graph(
            self._nodes, _PREFIX, list(self._inputs.values()), self._outputs, list(self._constants.values())
        )
        opsets = [helper.make_opsetid(domain, version) for domain, version in self._domains.items()]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=self._ir_version)
        onnx.checker.check_model(model)
        return model


def _type(dtype: str) -> int:
    if dtype == "string":
        return int(onnx.TensorProto.STRING)
    return int(helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))
