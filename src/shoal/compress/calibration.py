"""Static int8 by ONNX Runtime: ranges from real rows, weights and activations between quantise and dequantise nodes."""

import contextlib
import io
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from shoal.base import PackageError
from shoal.model import Package

# Per-channel weights are usually more accurate and sometimes slower: measured, not believed.
VARIANTS = {"per-channel": True, "per-tensor": False}
_BATCH_ROWS = 64


def quantized_graphs(package: Package, rows: Mapping[str, NDArray[Any]]) -> Iterator[tuple[str, onnx.ModelProto]]:
    """Yield (variant, int8 graph) of a package, calibrated on rows of its inputs.

    Raises:
        PackageError: ONNX Runtime cannot quantise the graph.
    """
    with tempfile.TemporaryDirectory(prefix="shoal-quantize-") as folder:
        prepared = Path(folder, "prepared.onnx")
        try:
            quant_pre_process(str(package.onnx_path), str(prepared))
            for variant, per_channel in VARIANTS.items():
                yield variant, _quantized(prepared, Path(folder, f"{variant}.onnx"), rows, per_channel=per_channel)
        except Exception as error:
            raise PackageError(
                f"cannot quantise {package.path}: {type(error).__name__}: {error}",
                next_step="keep the float package; the graph holds something that ONNX Runtime cannot quantise",
            ) from error


def _quantized(prepared: Path, target: Path, rows: Mapping[str, NDArray[Any]], *, per_channel: bool) -> onnx.ModelProto:
    # Probabilities stay in float: in steps of 1/255 they would no longer add up to one.
    # And what prepares raw rows must go on doing what it did in training.
    exact = [
        node.name
        for node in onnx.load(prepared).graph.node
        if node.op_type == "Softmax" or node.name.startswith("prepared")
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        quantize_static(
            str(prepared),
            str(target),
            _Reader(rows),
            quant_format=QuantFormat.QDQ,
            per_channel=per_channel,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            # Weights of 7 bits: with 8, x86 without VNNI saturates in the middle of the sums, and a package that was
            # checked on one machine would lose accuracy unseen on another.
            reduce_range=True,
            nodes_to_exclude=exact,
        )
    return onnx.load(target)


class _Reader(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime ships no types
    def __init__(self, rows: Mapping[str, NDArray[Any]]) -> None:
        num_rows = len(next(iter(rows.values())))
        self._batches = iter(
            [
                {name: np.ascontiguousarray(values[start : start + _BATCH_ROWS]) for name, values in rows.items()}
                for start in range(0, num_rows, _BATCH_ROWS)
            ]
        )

    def get_next(self) -> dict[str, NDArray[Any]] | None:
        return next(self._batches, None)
