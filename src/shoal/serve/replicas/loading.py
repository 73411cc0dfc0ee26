"""A version of a model in a replica: loaded, tried, and ready to run batches."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from shoal.base import PackageError, ShoalError
from shoal.model import Package, Session, Signature, open_package
from shoal.serve.replicas.carrying import is_carried, receive
from shoal.serve.replicas.chain import Chain, ChainModel
from shoal.serve.replicas.portions import choose_portion, cut
from shoal.serve.replicas.python_models import PythonModel, import_model, is_address, zeros
from shoal.serve.replicas.randomness import draws_random_numbers
from shoal.serve.wire.interface import Interface, TensorField
from shoal.serve.wire.tensors import Array, input_datatype_of

# 1 gives the overhead, 32 the slope, and those between whether caches hold so much; more would lengthen the load.
_TRIED_ROWS = (1, 4, 8, 32)
# The quickest of three: what else the machine did in between is not the model's cost.
_REPEATS = 3
# A large model should not be late for a swap because it was timed too well.
_MOST_TRYING_S = 0.3


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """What runs batches, and what the front must know of it.

    Attributes:
        path: what was asked for.
        session: what computes.
        interface: what it takes and gives.
        timings: (rows, seconds) of the batches that it was tried with.
        model_kind: what the outputs mean.
        portion: rows that it computes at once; None for as many as come.
    """

    path: str
    session: Session | PythonModel | ChainModel
    interface: Interface
    timings: list[tuple[int, float]]
    model_kind: str
    portion: int | None = None

    def run(self, inputs: list[Array]) -> list[Array]:
        """Outputs of a batch, in the interface's order.

        Raises:
            PackageError: the model itself fails on these values.
            InputError: a model in Python refuses them.
            ServeError: a model in Python failed for another reason.
        """
        portion, num_rows = self.portion, len(inputs[0]) if inputs else 0
        if portion is None or num_rows <= portion:
            return self._compute(inputs)
        parts = [self._compute([array[rows] for array in inputs]) for rows in cut(num_rows, portion)]
        return [np.concatenate(outputs) for outputs in zip(*parts, strict=True)]

    def _compute(self, inputs: list[Array]) -> list[Array]:
        names = (field.name for field in self.interface.inputs)
        outputs = self.session.run(dict(zip(names, inputs, strict=True)))
        return [_plain(outputs[field.name]) for field in self.interface.outputs]


def load_model(path: str, *, threads: int = 1) -> LoadedModel:
    """Load what a plan names, and run it on a few sizes of batch.

    Args:
        path: a package's folder, of which every file is checked, a plain ONNX file, the address of a Python class, or a
            Python object that the supervisor carried here.
        threads: that compute one batch in ONNX Runtime.

    Raises:
        ShoalError: the file or folder is missing, was changed, or is not a model that can be served.
    """
    if is_carried(path):
        carried = receive(path)
        model: PythonModel | ChainModel
        if isinstance(carried, Chain):
            model = ChainModel(carried, threads=threads)
        else:
            kind = carried if isinstance(carried, type) else type(carried)
            model = PythonModel(carried, kind.__name__)
        return _loaded_python(path, model)
    if is_address(path):
        found = import_model(path)
        name = path.rpartition(":")[2]
        return _loaded_python(
            path, ChainModel(found, threads=threads) if isinstance(found, Chain) else PythonModel(found, name)
        )
    package = open_package(path) if Path(path).is_dir() else None
    session = Session(package or path, threads=threads)
    has_row_dimension = _has_row_dimension(session.signature)
    timings, is_by_row = _try_out(session, None, has_row_dimension)
    interface = _interface(
        session.signature,
        batched=has_row_dimension and is_by_row,
        deterministic=not draws_random_numbers(path),
        fills_nan=frozenset() if package is None else _filled_inputs(package),
    )
    return LoadedModel(
        path,
        session,
        interface,
        timings,
        package.model_kind if package else "unknown",
        choose_portion(timings) if interface.batched else None,
    )


def _loaded_python(path: str, model: PythonModel | ChainModel) -> LoadedModel:
    takes_batches = model.batched and _has_row_dimension(model.signature)
    timings, is_by_row = _try_out(model, model.example, takes_batches)
    interface = _interface(model.signature, batched=takes_batches and is_by_row, deterministic=model.deterministic)
    return LoadedModel(path, model, interface, timings, model.kind)


def _interface(
    signature: Signature, *, batched: bool, deterministic: bool, fills_nan: frozenset[str] = frozenset()
) -> Interface:
    return Interface(
        inputs=tuple(
            TensorField(spec.name, input_datatype_of(spec.dtype).name, spec.shape, spec.name in fills_nan)
            for spec in signature.inputs
        ),
        outputs=tuple(
            TensorField(spec.name, input_datatype_of(spec.dtype).name, spec.shape) for spec in signature.outputs
        ),
        batched=batched,
        deterministic=deterministic,
    )


def _filled_inputs(package: Package) -> frozenset[str]:
    """The inputs in which the graph puts a value where NaN stands, because no mask tells which rows have none."""
    preparation = package.preparation
    if preparation is None:
        return frozenset()
    return frozenset(
        chain.name
        for chain in preparation.plan.chains
        if chain.fills_missing and not chain.takes_mask and chain.column.dtype.startswith("float")
    )


def _plain(output: Array) -> Array:
    # Shared memory carries texts of one width, not Python's objects.
    return np.array(output, np.str_) if output.dtype.kind in "OT" else np.ascontiguousarray(output)


def _has_row_dimension(signature: Signature) -> bool:
    return all(spec.shape and spec.shape[0] is None for spec in (*signature.inputs, *signature.outputs))


def _try_out(
    session: Session | PythonModel | ChainModel, example: Mapping[str, Array] | None, has_row_dimension: bool
) -> tuple[list[tuple[int, float]], bool]:
    """Time the model on its example or on zeros; also whether every output had as many rows as the inputs.

    The first run is always slow (memory is laid out), so traffic should not have it.
    """
    timings: list[tuple[int, float]] = []
    is_by_row = True
    started_s = time.monotonic()
    for num_rows in _TRIED_ROWS if has_row_dimension else (1,):
        inputs = _rows(session.signature, example, num_rows if has_row_dimension else None)
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


def _rows(signature: Signature, example: Mapping[str, Array] | None, num_rows: int | None) -> dict[str, Array]:
    """The example's rows, cut or repeated to a number of rows, or as they are for None; else zeros."""
    if example is None:
        return zeros(signature.inputs, num_rows or 1)
    if num_rows is None:
        return dict(example)
    return {name: np.resize(values, (num_rows, *values.shape[1:])) for name, values in example.items()}


def _timed(session: Session | PythonModel | ChainModel, inputs: Mapping[str, Array]) -> tuple[float, dict[str, Array]]:
    started_s = time.perf_counter()
    outputs = session.run(inputs)
    return time.perf_counter() - started_s, outputs
