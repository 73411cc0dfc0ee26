"""From a torch module to an ONNX graph: with `compress`, the only place below training that knows torch."""

import copy
import inspect
import logging
import threading
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from shoal.base import InputError, PackageError, UnsupportedError
from shoal.model.tables import repeat_rows

# The exporter takes a batch of one row for a constant.
_MIN_ROWS = 2
# torch.export keeps its stack of modes in the process: two exports at once, as in a flow's threads, empty each other's.
_one_at_a_time = threading.Lock()


def export_module(
    model: object, example: Mapping[str, NDArray[Any]], *, inputs: Sequence[str] | None = None
) -> tuple[onnx.ModelProto, dict[str, NDArray[Any]]]:
    """Export a module as it is in evaluation mode, with a free batch dimension; the module itself is not changed.

    Args:
        model: an `nn.Module` whose forward takes tensors [batch, ...] and returns one, or a dict of them.
        example: arrays by name; the batch is their first dimension.
        inputs: the columns for forward's parameters in order; left out, those that bear the parameters' names.

    Returns:
        (the graph, what the module itself gives for the example). A single output is named "output".

    Raises:
        UnsupportedError: `model` is no module, or gives something else than tensors.
        InputError: the example lacks a column for one of forward's parameters.
        PackageError: torch cannot turn the module into ONNX.
    """
    if not isinstance(model, nn.Module):
        raise UnsupportedError(
            f"cannot package a {type(model).__name__}: expected a torch module, an ONNX file or an ONNX model",
            next_step="convert it to ONNX first and give the file's path",
        )
    module = copy.deepcopy(model).cpu().eval()
    columns = _columns(module, example, inputs)
    tensors = {parameter: torch.from_numpy(np.array(example[column])) for parameter, column in columns.items()}
    with torch.no_grad():
        outputs = _by_name(module(**tensors))
    num_rows = max(_MIN_ROWS, len(next(iter(example.values()))))
    several = repeat_rows({column: example[column] for column in columns.values()}, num_rows)
    graph = _export(
        module,
        {parameter: torch.from_numpy(several[column]) for parameter, column in columns.items()},
        list(columns.values()),
        list(outputs),
    )
    return graph, {name: output.numpy() for name, output in outputs.items()}


def _columns(module: nn.Module, example: Mapping[str, object], inputs: Sequence[str] | None) -> dict[str, str]:
    parameters = inspect.signature(module.forward).parameters
    named = [name for name, found in parameters.items() if found.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD]
    chosen = dict(zip(named, inputs, strict=False)) if inputs else {name: name for name in named if name in example}
    needed = [name for name in named if parameters[name].default is inspect.Parameter.empty]
    absent = [name for name in needed if name not in chosen] + [name for name in chosen.values() if name not in example]
    if absent or not chosen or len(chosen) < len(inputs or ()):
        raise InputError(
            f"cannot tell what forward({', '.join(named)}) takes: found inputs={list(inputs or ())} and an example "
            f"with {sorted(example)}; nothing for {', '.join(absent) or 'any parameter'}",
            next_step="name the columns for forward's parameters in order, such as inputs=['image']",
        )
    return chosen


def _by_name(outputs: object) -> dict[str, Tensor]:
    found = {"output": outputs} if isinstance(outputs, Tensor) else outputs
    if not isinstance(found, dict) or not all(isinstance(value, Tensor) for value in found.values()):
        raise UnsupportedError(
            f"cannot package a module that returns a {type(outputs).__name__}",
            next_step="return one tensor, or a dict of tensors by name",
        )
    return found


def _export(
    module: nn.Module, tensors: dict[str, Tensor], input_names: Sequence[str], output_names: Sequence[str]
) -> onnx.ModelProto:
    _hush_known_noise()
    try:
        with _one_at_a_time:
            program = torch.onnx.export(
                module,
                kwargs=tensors,
                dynamo=True,
                dynamic_shapes={parameter: {0: torch.export.Dim.DYNAMIC} for parameter in tensors},
                input_names=input_names,
                output_names=output_names,
                verbose=False,
            )
        assert program is not None  # only a call with a target file returns nothing
        graph = program.model_proto
    except Exception as error:  # the boundary to torch's exporter, which raises kinds of its own
        raise PackageError(
            f"cannot export {type(module).__name__} to ONNX: {_first_lines(error)}",
            next_step="make forward traceable by torch.export with any batch size; the cause is above",
        ) from error
    return graph


def _first_lines(error: Exception) -> str:
    cause = error.__cause__ or error
    return " ".join(str(cause).split("\n")[:3])


def _hush_known_noise() -> None:
    # Set again for each export and never undone: a warnings context would race with other threads. Both are torch's own
    # affairs that no user can act on.
    warnings.filterwarnings("ignore", message=r"`isinstance\(treespec, LeafSpec\)`", category=FutureWarning)
    logging.getLogger("torch.onnx._internal.exporter._registration").addFilter(_is_not_about_torchvision)


def _is_not_about_torchvision(record: logging.LogRecord) -> bool:
    return "torchvision is not installed" not in record.getMessage()
