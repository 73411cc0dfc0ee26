"""The compiled reader of ordinary inference requests, where a compiler was at hand when shoal was installed.

It takes the JSON that nearly every client sends, at a third of the cost of reading it twice, into objects and into an
array. In any doubt it gives nothing, and `protocol` reads the same bytes and decides.
"""

from collections.abc import Callable
from importlib import import_module
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from shoal.base import powers_of_ten
from shoal.serve.wire.interface import Interface
from shoal.serve.wire.tensors import Array

try:
    _compiled: Any = import_module("shoal.serve.wire._infer_body")
except ImportError:
    _compiled = None

# As in _infer_body.c.
_MOST_INPUTS = 32
_MOST_DIMENSIONS = 8
_KINDS = "fiu"
_HALF_BYTES = 2


class Ordinary(NamedTuple):
    """What a request holds that has inputs and perhaps an id, and nothing else.

    Attributes:
        id: the client's own, or None.
        arrays: one per input of the interface, in its order; not to be written to.
        num_rows: rows in each of them; 1 for a model that is not batched.
    """

    id: str | None
    arrays: tuple[Array, ...]
    num_rows: int


Reader: TypeAlias = Callable[[bytes], Ordinary | None]


def reader_for(interface: Interface) -> Reader | None:
    """Make the reader of requests for an interface; None where its tensors are beyond the compiled loops."""
    inputs = interface.inputs
    dtypes = [field.type.dtype for field in inputs]
    if _compiled is None or not 0 < len(inputs) <= _MOST_INPUTS:
        return None
    for field, dtype in zip(inputs, dtypes, strict=True):
        is_half = dtype.kind == "f" and dtype.itemsize == _HALF_BYTES
        if dtype.kind not in _KINDS or is_half or not 0 < len(field.shape) <= _MOST_DIMENSIONS:
            return None
        # Sizes that the request chooses beyond its rows make forms of their own.
        if None in field.shape[1:]:
            return None
    fields = tuple(
        (field.name.encode(), field.datatype.encode(), dtype.kind, dtype.itemsize, tuple(field.wire_shape))
        for field, dtype in zip(inputs, dtypes, strict=True)
    )
    plan = _compiled.plan(fields, powers_of_ten().tobytes())
    read = _compiled.read
    is_batched = interface.batched
    forms = [(field.shape[0], tuple(field.wire_shape[1:]), dtype) for field, dtype in zip(inputs, dtypes, strict=True)]

    def read_body(body: bytes) -> Ordinary | None:
        found = read(plan, body)
        if found is None:
            return None
        request_id, num_rows, raws = found
        arrays = tuple(
            np.ndarray((num_rows if rows is None else rows, *sizes), dtype, raw)
            for (rows, sizes, dtype), raw in zip(forms, raws, strict=True)
        )
        return Ordinary(request_id, arrays, num_rows if is_batched else 1)

    return read_body
