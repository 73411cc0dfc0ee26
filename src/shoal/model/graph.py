"""ONNX graphs as they go into packages: bare of traces of their making, with probabilities named `scores`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from shoal.base import NotFoundError, PackageError, UnsupportedError
from shoal.model.manifest import SCORES

MAX_BYTES = 2**31 - 1  # protobuf's own limit
_SUM_TOLERANCE = 1e-3


def load_graph(path: Path) -> onnx.ModelProto:
    """Read an ONNX file, with the weights that it may keep in files beside it.

    Raises:
        NotFoundError: there is no such file.
        PackageError: it is no ONNX file, or its weights are missing.
    """
    if not path.is_file():
        raise NotFoundError(f"cannot package {path}: there is no such file", next_step="check the path")
    try:
        graph = onnx.load(path)
        onnx.checker.check_model(graph)
    except Exception as error:  # the boundary to protobuf and onnx, which raise kinds of their own
        raise PackageError(
            f"cannot package {path}: it is no valid ONNX model: {error}", next_step="export the model again"
        ) from error
    return graph


def to_bytes(graph: onnx.ModelProto) -> bytes:
    """Return the graph as one self-contained file; the same graph gives the same bytes."""
    size = graph.ByteSize()
    if size > MAX_BYTES:
        raise UnsupportedError(
            f"cannot package a model of {size} bytes: one ONNX file holds at most {MAX_BYTES}",
            next_step="make the model smaller, for example with 16-bit weights",
        )
    content: bytes = graph.SerializeToString(deterministic=True)
    return content


def strip(graph: onnx.ModelProto) -> None:
    """Remove, in place, what exporters leave behind: source lines and paths of the machine that made the graph.

    It would tell strangers about that machine, and change the digest of equal models.
    """
    body = graph.graph
    del graph.metadata_props[:], body.value_info[:], body.metadata_props[:]
    graph.doc_string = body.doc_string = ""
    for item in (*body.node, *body.input, *body.output, *body.initializer):
        item.doc_string = ""
        del item.metadata_props[:]
    for value in (*body.input, *body.output):
        dimensions = value.type.tensor_type.shape.dim
        if dimensions and dimensions[0].dim_param:
            dimensions[0].dim_param = "batch"


def add_scores(graph: onnx.ModelProto, outputs: Mapping[str, NDArray[Any]]) -> None:
    """Let, in place, the only output of a classifier be probabilities [batch, classes] under the name "scores".

    Args:
        graph: a classifier; a softmax is appended unless it gives probabilities already.
        outputs: what it gives for a few rows, to tell which.

    Raises:
        PackageError: it has several outputs, or not one row of floats per input row.
    """
    found = {name: f"{values.dtype}{list(values.shape)}" for name, values in outputs.items()}
    values = next(iter(outputs.values()), np.zeros(0))
    if len(outputs) != 1 or values.ndim != 2 or values.dtype not in (np.float32, np.float64):
        raise PackageError(
            f"cannot package as a classifier: its outputs are {found}, expected one float tensor [batch, classes]",
            next_step="return logits or probabilities alone, or give kind='regression' to keep the outputs as they are",
        )
    (name,) = outputs
    operator = "Identity" if is_distribution(values) else "Softmax"
    if name == SCORES and operator == "Identity":
        return
    inner = f"{name}_of_the_model"
    _rename(graph.graph, name, inner)
    node = onnx.helper.make_node(operator, [inner], [SCORES], name=SCORES)
    if operator == "Softmax":
        node.attribute.append(onnx.helper.make_attribute("axis", -1))
    graph.graph.node.append(node)
    graph.graph.output[0].name = SCORES


def is_distribution(values: NDArray[Any]) -> bool:
    """Tell whether every row holds shares that add up to one."""
    return bool((values >= 0).all() and np.abs(values.sum(axis=-1) - 1).max(initial=0) <= _SUM_TOLERANCE)


def softmax(values: NDArray[Any]) -> NDArray[Any]:
    """Softmax over the last dimension, as the appended node computes it."""
    powers = np.exp(values - values.max(axis=-1, keepdims=True))
    shares: NDArray[Any] = powers / powers.sum(axis=-1, keepdims=True)
    return shares


def _rename(body: onnx.GraphProto, old: str, new: str) -> None:
    for node in body.node:
        for names in (node.input, node.output):
            for place, name in enumerate(names):
                if name == old:
                    names[place] = new
