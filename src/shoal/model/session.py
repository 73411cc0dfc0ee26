"""Run a model: ONNX Runtime behind a signature, the same for gates, offline prediction and serving."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from shoal.base import ConfigError, NotFoundError, PackageError
from shoal.model.reading import Package
from shoal.model.signature import Signature, TensorSpec

_ERRORS_ONLY = 3
# int8 on another instruction set may round one step away, about 1/128; a wrong kernel is off by far more.
_REPLAY_TOLERANCE = 0.02
_DTYPES = {"float": "float32", "double": "float64"}


class Session:
    """A loaded model.

    `run` may be called by several threads at once. Each call computes with `threads` threads, the calling one included,
    and with the same number of them the same rows in the same batch give the same bits.
    """

    def __init__(self, source: Package | str | Path | bytes, *, threads: int = 1, replay: bool = False) -> None:
        """Load a package, a plain ONNX file, or the content of one.

        Args:
            source: what to load.
            threads: that compute one call.
            replay: run a package's examples first, and refuse it where this machine gives other outputs.

        Raises:
            NotFoundError: there is no such file.
            PackageError: the file is no model that ONNX Runtime can run, or one of its inputs or outputs is no tensor
                of numbers, or the examples come out differently.
        """
        if threads < 1:
            raise ConfigError(f"threads={threads} must be >= 1", next_step="leave it out for one thread")
        self._session = _load(source.onnx_path if isinstance(source, Package) else source, threads)
        self.signature = source.signature if isinstance(source, Package) else _signature(self._session)
        self._outputs = [spec.name for spec in self.signature.outputs]
        if replay and isinstance(source, Package):
            self._replay(source)

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Compute the outputs of a batch, by name; row i of every output belongs to row i of the inputs.

        Raises:
            InputError: the inputs do not fit the signature.
            PackageError: the model itself fails on inputs that fit.
        """
        num_rows = self.signature.check(inputs)
        try:
            found = self._session.run(self._outputs, {name: _fed(values) for name, values in inputs.items()})
        except Exception as error:  # the boundary to ONNX Runtime, which raises kinds of its own
            raise PackageError(
                f"the model failed on a batch of {num_rows} rows that fits its signature: {error}",
                next_step="run the model on this batch where it was made, correct it and package it again",
            ) from error
        return dict(zip(self._outputs, found, strict=True))

    def _replay(self, package: Package) -> None:
        inputs, outputs = package.examples()
        found = self.run(inputs)
        for name, expected in outputs.items():
            if expected.dtype == object:
                continue  # Texts are labels, which follow from the scores.
            if not np.allclose(found[name], expected, rtol=_REPLAY_TOLERANCE, atol=_REPLAY_TOLERANCE):
                raise PackageError(
                    f"{package.path} gives other outputs on this machine: {name!r} of its examples is off by "
                    f"{np.abs(found[name] - expected).max():.3g}, expected at most {_REPLAY_TOLERANCE}",
                    next_step="compare the versions of onnxruntime here and where it was packaged",
                )


def _load(source: str | Path | bytes, threads: int) -> onnxruntime.InferenceSession:
    if not isinstance(source, bytes) and not Path(source).is_file():
        raise NotFoundError(f"cannot load {source}: there is no such file", next_step="check the path")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _ERRORS_ONLY
    # Idle threads that spin would steal the processor from the other replicas of this machine.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    model = source if isinstance(source, bytes) else str(source)
    try:
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the boundary to ONNX Runtime, which raises kinds of its own
        raise PackageError(
            f"cannot load {'the graph' if isinstance(source, bytes) else source}: ONNX Runtime says {error}",
            next_step="check that it is a complete ONNX model",
        ) from error


def _fed(values: NDArray[Any]) -> NDArray[Any]:
    # ONNX Runtime takes no None: a row without a text, which the mask beside it tells, holds an empty one.
    if values.dtype == object and None in values.reshape(-1).tolist():
        return np.array(["" if text is None else text for text in values.reshape(-1).tolist()], object).reshape(
            values.shape
        )
    return values


def _signature(session: onnxruntime.InferenceSession) -> Signature:
    return Signature(
        tuple(_spec(node) for node in session.get_inputs()), tuple(_spec(node) for node in session.get_outputs())
    )


def _spec(node: Any) -> TensorSpec:  # noqa: ANN401 - onnxruntime.NodeArg ships no types
    kind = re.fullmatch(r"tensor\((\w+)\)", node.type)
    if kind is None:
        raise PackageError(
            f"cannot use {node.name!r}: it is of type {node.type}, expected a tensor of numbers or texts",
            next_step="change the model so that it takes and gives plain tensors",
        )
    dtype = _DTYPES.get(kind[1], kind[1])
    return TensorSpec(node.name, dtype, tuple(size if isinstance(size, int) else None for size in node.shape))
