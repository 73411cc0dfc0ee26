"""Around the graph of an estimator: inputs by column name with masks, outputs under the names that packages use."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, compose, helper, numpy_helper

from shoal.model.estimators.example import Column
from shoal.model.manifest import SCORES

# The opsets that graphs are written for; ONNX Runtime has known both for years.
OPSETS = {"": 18, "ai.onnx.ml": 3}
# Stands for a text that is missing, inside the graph alone: a character that no alphabet uses.
NO_TEXT = "\ue000"
LABEL, OUTPUT = "label", "output"
Classes = tuple[int, ...] | tuple[str, ...]
_INNER = "estimator."


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """How columns reach the estimator's own graph.

    Attributes:
        numbers: the element type that numbers are turned into, `TensorProto.DOUBLE` or `.FLOAT`.
        keeps_integers: whether whole numbers stay such: encoders of categories look them up.
        matrix: the name of the one input that all columns are joined into; None for an input per column.
    """

    numbers: int
    keeps_integers: bool
    matrix: str | None

    def element_type(self, column: Column) -> int:
        """The element type in which a column reaches the estimator."""
        if column.is_text:
            return int(TensorProto.STRING)
        if self.keeps_integers and column.values.dtype.kind in "biu" and column.present is None:
            return int(TensorProto.INT64)
        return self.numbers


def wrap(
    graph: onnx.ModelProto, columns: Sequence[Column], form: Form, classes: Classes | None, *, labels_by_score: bool
) -> onnx.ModelProto:
    """Return a graph with the given columns as inputs and `scores` and `label`, or `output`, as outputs.

    Args:
        graph: of an estimator. A classifier gives a label and probabilities, in this order; others one matrix.
        columns: what it takes; those that it does not use become no inputs.
        form: what the estimator's own graph was made for.
        classes: of a classifier; None for others.
        labels_by_score: whether the label is the likeliest class, as nearly every classifier has it; else the graph's
            own is taken.
    """
    inner = compose.add_prefix(graph, _INNER)
    used = {name for node in inner.graph.node for name in node.input}
    writer = _Writer()
    columns = [column for column in columns if form.matrix or f"{_INNER}{column.name}" in used]
    pieces = [writer.column(column, form) for column in columns]
    if form.matrix and columns[0].values.ndim == 1:
        writer.add("Concat", pieces, f"{_INNER}{form.matrix}", axis=1)
    else:
        for column, piece in zip(columns, pieces, strict=True):
            writer.add("Identity", [piece], f"{_INNER}{column.name}")
    writer.nodes += inner.graph.node
    writer.constants += inner.graph.initializer
    outputs = [value.name for value in inner.graph.output]
    if classes is not None:
        writer.classifier(outputs[1], classes, None if labels_by_score else outputs[0])
    else:
        writer.regressor(inner.graph.output[0])
    body = helper.make_graph(writer.nodes, "estimator", writer.inputs, writer.outputs, writer.constants)
    opsets = [helper.make_opsetid(domain, version) for domain, version in OPSETS.items()]
    return helper.make_model(body, opset_imports=opsets, ir_version=graph.ir_version)


class _Writer:
    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.inputs: list[onnx.ValueInfoProto] = []
        self.outputs: list[onnx.ValueInfoProto] = []

    def add(self, operator: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:  # noqa: ANN401 - ONNX's
        self.nodes.append(helper.make_node(operator, list(inputs), [output], name=output, **attributes))
        return output

    def constant(self, name: str, value: np.ndarray) -> str:
        if name not in {constant.name for constant in self.constants}:
            self.constants.append(numpy_helper.from_array(value, name))
        return name

    def column(self, column: Column, form: Form) -> str:
        """The values as [batch, 1] in the type that the estimator takes; a matrix as it is."""
        name = column.name
        text = column.is_text
        kind = TensorProto.STRING if text else helper.np_dtype_to_tensor_dtype(column.values.dtype)
        self.inputs.append(helper.make_tensor_value_info(name, kind, ["batch", *column.values.shape[1:]]))
        wanted = form.element_type(column)
        values = name if text else self.add("Cast", [name], f"columns.{name}.cast", to=wanted)
        if column.present is not None:
            mask = f"{name}_mask"
            self.inputs.append(helper.make_tensor_value_info(mask, TensorProto.BOOL, ["batch"]))
            gap = np.array([NO_TEXT], object) if text else np.array([np.nan], helper.tensor_dtype_to_np_dtype(wanted))
            values = self.add(
                "Where", [mask, values, self.constant(f"columns.gap.{wanted}", gap)], f"columns.{name}.whole"
            )
        if column.values.ndim > 1:
            return values
        return self.add("Unsqueeze", [values, self.constant("columns.axis", np.array([1]))], f"columns.{name}")

    def classifier(self, probabilities: str, classes: Classes, label: str | None) -> None:
        self.add("Cast", [probabilities], SCORES, to=TensorProto.FLOAT)
        is_text = isinstance(classes[0], str)
        kind = TensorProto.STRING if is_text else TensorProto.INT64
        if label is None:
            # Not the graph's own, which the converters of some classifiers number instead of naming it.
            names = self.constant("classes", np.array(classes, object if is_text else np.int64))
            best = self.add("ArgMax", [probabilities], "classes.best", axis=1, keepdims=0)
            self.add("Gather", [names, best], LABEL)
        elif is_text:
            self.add("Identity", [label], LABEL)
        else:
            self.add("Cast", [label], LABEL, to=kind)
        self.outputs += [
            helper.make_tensor_value_info(SCORES, TensorProto.FLOAT, ["batch", len(classes)]),
            helper.make_tensor_value_info(LABEL, kind, ["batch"]),
        ]

    def regressor(self, found: onnx.ValueInfoProto) -> None:
        given = found.type.tensor_type
        sizes = [size.dim_value for size in given.shape.dim]
        if sizes[1:] == [1]:
            self.add("Squeeze", [found.name, self.constant("columns.axis", np.array([1]))], OUTPUT)
        else:
            self.add("Identity", [found.name], OUTPUT)
        shape = ["batch", *(size or None for size in sizes[1:] if size != 1)]
        self.outputs.append(helper.make_tensor_value_info(OUTPUT, given.elem_type, shape))
