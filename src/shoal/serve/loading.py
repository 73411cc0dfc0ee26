"""A version of a model in a replica: loaded, tried, and ready to run batches."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from shoal.base import PackageError, ShoalError
from shoal.model import Session, Signature, open_package
from shoal.serve.interface import Interface, TensorField
from shoal.serve.tensors import Array, datatype_of, input_datatype_of

# 1 gives the overhead, 32 the slope; more would only lengthen the load.
_TRIED_ROWS = (1, 8, 32)
# The quickest of three: what else the machine did in between is not the model's cost.
_REPEATS = 3
# A large model should not be late for a swap because it was timed too well.
_MOST_TRYING_S = 0.3


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A session and what the front must know of it."""

    path: str
    session: Session
    interface: Interface
    timings: list[tuple[int, float]]
    model_kind: str

    def run(self, inputs: list[Array]) -> list[Array]:
        """Outputs of a batch, in the interface's order; PackageError when the model itself fails on it."""
        names = (field.name for field in self.interface.inputs)
        outputs = self.session.run(dict(zip(names, inputs, strict=True)))
        return [np.ascontiguousarray(outputs[field.name]) for field in self.interface.outputs]


def load_model(path: str, *, threads: int = 1) -> LoadedModel:
    """Load a package's folder, every file checked, or a plain ONNX file; run it on a few sizes of batch.

    Raises:
        ShoalError: the file or folder is missing, was changed, or is not a model that can be served.
    """
    package = open_package(path) if Path(path).is_dir() else None
    session = Session(package or path, threads=threads)
    signature = session.signature
    has_row_dimension = _has_row_dimension(signature)
    timings, is_by_row = _try_out(session, has_row_dimension)
    interface = Interface(
        inputs=tuple(
            TensorField(spec.name, input_datatype_of(spec.dtype).name, spec.shape) for spec in signature.inputs
        ),
        outputs=tuple(TensorField(spec.name, datatype_of(spec.dtype).name, spec.shape) for spec in signature.outputs),
        batched=has_row_dimension and is_by_row,
    )
    return LoadedModel(path, session, interface, timings, package.model_kind if package else "unknown")


def _has_row_dimension(signature: Signature) -> bool:
    return all(spec.shape and spec.shape[0] is None for spec in (*signature.inputs, *signature.outputs))


def _try_out(session: Session, has_row_dimension: bool) -> tuple[list[tuple[int, float]], bool]:
    """Time the model on zeros; also whether every output had as many rows as the inputs.

    The first run is always slow (memory is laid out), so traffic should not have it.
    """
    timings: list[tuple[int, float]] = []
    is_by_row = True
    started_s = time.monotonic()
    for num_rows in _TRIED_ROWS if has_row_dimension else (1,):
        inputs = _zeros(session.signature, num_rows)
        try:
            best_s = min(_timed(session, inputs)[0] for _ in range(_REPEATS))
            _, outputs = _timed(session, inputs)
        except ShoalError as error:
            if timings or not isinstance(error, PackageError):
                raise
            # Zeros may be no valid input (an index from 1, a shortest length): then traffic must show the cost.
            return [], is_by_row
        timings.append((num_rows, best_s))
        is_by_row = is_by_row and all(output.shape[:1] == (num_rows,) for output in outputs.values())
        if time.monotonic() - started_s > _MOST_TRYING_S or not is_by_row:
            break
    return timings, is_by_row


def _zeros(signature: Signature, num_rows: int) -> dict[str, Array]:
    zeros = {}
    for spec in signature.inputs:
        first = (num_rows,) if spec.shape and spec.shape[0] is None else spec.shape[:1]
        shape = (*(size or 1 for size in first), *(size or 1 for size in spec.shape[1:]))
        zeros[spec.name] = np.full(shape, "", np.str_) if spec.dtype == "string" else np.zeros(shape, spec.dtype)
    return zeros


def _timed(session: Session, inputs: Mapping[str, Array]) -> tuple[float, dict[str, Array]]:
    started_s = time.perf_counter()
    outputs = session.run(inputs)
    return time.perf_counter() - started_s, outputs
