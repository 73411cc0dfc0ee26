"""A vocabulary in a graph."""

from collections.abc import Sequence

import numpy as np

from shoal.data.prepare.base import GraphWriter, Wires

_DOMAIN = "ai.onnx.ml"


def write_lookup(graph: GraphWriter, wires: Wires, keys: Sequence[str | int], places: Sequence[int]) -> str:
    """Add nodes that turn each text or int64 into the place of its key, 0 for others, and return their int64 tensor."""
    if not keys:
        # LabelEncoder takes no empty vocabulary: then everything is unknown.
        shape = graph.add("Shape", wires.values)
        return graph.add("Expand", graph.constant(np.int64(0)), shape)
    kind = "strings" if wires.dtype == "string" else "int64s"
    return graph.add(
        "LabelEncoder",
        wires.values,
        domain=_DOMAIN,
        default_int64=0,
        values_int64s=list(places),
        **{f"keys_{kind}": list(keys)},
    )
