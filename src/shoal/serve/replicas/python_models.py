"""Models that are Python classes: found, tried, and run as an ONNX model is."""

import ast
import importlib
import importlib.util
import logging
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from shoal.base import InputError, NotFoundError, PackageError, ServeError, ShoalError, UnsupportedError
from shoal.model import Signature, TensorSpec
from shoal.serve.wire.tensors import Array

_LOG = logging.getLogger(__name__)
_ADDRESS = re.compile(r"(?P<place>[^:]+\.py|[A-Za-z_][\w.]*):(?P<name>[A-Za-z_]\w*)")
# What a model that returns one array is taken to have named it.
_ONLY_OUTPUT = "output"


class PythonModel:
    """An object with `predict(batch)`, behind a signature.

    `predict` gets a dict of arrays by input name, its own to change, and returns one array or a dict of arrays. Its
    inputs are told by `signature`, a `shoal.model.Signature` whose outputs may be empty, or by `example`, a dict of a
    few rows. `batched = False` lets each request run alone, `deterministic = False` keeps answers out of the cache.
    """

    def __init__(self, model: Any, name: str) -> None:  # noqa: ANN401 - whatever the user has written
        """Take an instance, or make one of a class, and run it on its example or on zeros.

        Raises:
            PackageError: it declares no inputs, or fails on its example.
        """
        self.name = name
        self._model = _instance(model, name)
        self.batched = bool(getattr(self._model, "batched", True))
        self.deterministic = bool(getattr(self._model, "deterministic", True))
        self.kind = str(getattr(self._model, "kind", "unknown"))
        declared, example = getattr(self._model, "signature", None), getattr(self._model, "example", None)
        inputs = inputs_of(declared, example, name)
        self.example = None if example is None else arrays_of(example)
        rows = self.example if self.example is not None else zeros(inputs, 1)
        self._outputs: tuple[TensorSpec, ...] = declared.outputs if isinstance(declared, Signature) else ()
        found = attempt(lambda: call(self._model, name, rows), name)
        self._outputs = self._outputs or specs_of(found, batched=self.batched)
        self.signature = Signature(inputs, self._outputs)
        attempt(lambda: check_outputs(self._outputs, found, name), name)

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Outputs of a batch, by name.

        Raises:
            InputError: `predict` raised a ValueError: these values cannot be predicted.
            ServeError: `predict` failed or gave something else than declared; the traceback is in the process's log.
        """
        found = call(self._model, self.name, inputs)
        check_outputs(self._outputs, found, self.name)
        return found


def is_python_model(model: object) -> bool:
    """Whether this is a class or an object with `predict`."""
    return callable(getattr(model, "predict", None))


def is_address(text: str) -> bool:
    """Whether this reads as file.py:Class or package.module:Class."""
    return _ADDRESS.fullmatch(text) is not None


def check_address(address: str) -> tuple[str, str]:
    """(the address with an absolute path, the class's name); nothing is imported for it here.

    Raises:
        NotFoundError: there is no such file, or nothing of that name in it.
        UnsupportedError: the file is no Python.
    """
    found = _ADDRESS.fullmatch(address)
    assert found is not None
    place, name = found["place"], found["name"]
    if not place.endswith(".py"):
        return address, name
    path = Path(place).absolute()
    if not path.is_file():
        raise NotFoundError(f"cannot serve {address}: there is no file {path}", next_step="check the path")
    try:
        body = ast.parse(path.read_bytes(), str(path)).body
    except (SyntaxError, ValueError) as error:
        raise UnsupportedError(f"cannot serve {address}: {error}", next_step="correct the file") from error
    # Classes may also come by import or assignment, which only running the file would show.
    classes = [node.name for node in body if isinstance(node, ast.ClassDef)]
    is_named = any(re.search(rf"\b{name}\b", ast.unparse(node)) for node in body if not isinstance(node, ast.ClassDef))
    if name not in classes and not is_named:
        raise NotFoundError(
            f"cannot serve {address}: it has no {name}, only {', '.join(classes) or 'no class'}",
            next_step="name a class with predict(batch)",
        )
    return f"{path}:{name}", name


def import_model(address: str) -> Any:  # noqa: ANN401 - whatever the user has written
    """The class or object that an address names, its file run once in this process.

    Raises:
        PackageError: the file fails, or has nothing of that name.
    """
    place, _, name = address.rpartition(":")
    # As under `python file.py`: what lies beside the file can be imported.
    folder = str(Path(place).parent) if place.endswith(".py") else ""
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        module = importlib.import_module(Path(place).stem if place.endswith(".py") else place)
    except Exception as error:  # the boundary to the user's code
        _LOG.exception("cannot import %s", place)
        raise PackageError(
            f"cannot import {place}: {type(error).__name__}: {error}", next_step="run it alone, and correct it"
        ) from error
    there = getattr(module, "__file__", None)
    if place.endswith(".py") and (there is None or Path(there).resolve() != Path(place).resolve()):
        raise PackageError(
            f"cannot import {place}: its name is taken by the module {there or 'of Python itself'}",
            next_step="give the file another name",
        )
    if not hasattr(module, name):
        raise PackageError(f"there is no {name} in {place}", next_step="name a class with predict(batch)")
    return getattr(module, name)


def inputs_of(signature: object, example: object, name: str) -> tuple[TensorSpec, ...]:
    """The inputs that a model declares, by a signature or else by an example."""
    if isinstance(signature, Signature):
        return signature.inputs
    if signature is not None or not isinstance(example, Mapping) or not example:
        raise PackageError(
            f"cannot serve {name}: it does not say what it takes",
            next_step="give it example = {'x': numpy array of a few rows}, or signature = shoal.model.Signature(...)",
        )
    return specs_of(arrays_of(example), batched=True)


def specs_of(arrays: Mapping[str, Array], *, batched: bool) -> tuple[TensorSpec, ...]:
    """Arrays as fields; the first dimension is free where it counts rows."""
    return tuple(
        TensorSpec(name, _dtype(array), (None, *array.shape[1:]) if batched and array.ndim else array.shape)
        for name, array in arrays.items()
    )


def zeros(inputs: tuple[TensorSpec, ...], num_rows: int) -> dict[str, Array]:
    """Rows of zeros and empty texts; sizes that are free are 1."""
    found: dict[str, Array] = {}
    for spec in inputs:
        first = (num_rows,) if spec.shape and spec.shape[0] is None else spec.shape[:1]
        shape = (*(size or 1 for size in first), *(size or 1 for size in spec.shape[1:]))
        found[spec.name] = np.full(shape, "", np.str_) if spec.dtype == "string" else np.zeros(shape, spec.dtype)
    return found


def arrays_of(values: object) -> dict[str, Array]:
    """What `predict` gave or an example holds, as arrays by name."""
    named = values if isinstance(values, Mapping) else {_ONLY_OUTPUT: values}
    # A tensor on a GPU would say so itself; lists and tensors become what NumPy makes of them.
    return {str(name): np.asarray(value) for name, value in named.items()}


def call(model: Any, name: str, inputs: Mapping[str, Array]) -> dict[str, Array]:  # noqa: ANN401 - as above
    """Call `predict`, or a plain function, on copies; errors as `PythonModel.run` promises."""
    predict = getattr(model, "predict", model)
    try:
        # Copies: the batch's own memory is written again, and a model may keep what it was given.
        return arrays_of(predict({name: np.array(array) for name, array in inputs.items()}))
    except ValueError as error:
        said = error.message if isinstance(error, ShoalError) else str(error)
        raise InputError(
            f"{name} does not take these values: {said}", next_step="send values that it was made for"
        ) from error
    except Exception as error:
        _LOG.exception("%s failed on a batch", name)
        raise ServeError(
            f"{name} failed on this input with a {type(error).__name__}",
            next_step="read its traceback in the replica's log, which GET /status names",
            status=500,
        ) from error


def check_outputs(specs: tuple[TensorSpec, ...], found: Mapping[str, Array], name: str) -> None:
    """Raise ServeError unless the outputs are what was declared or found at the start."""
    for spec in specs:
        array = found.get(spec.name)
        given = "nothing" if array is None else f"{_dtype(array)} {list(array.shape)}"
        fits = (
            array is not None
            and _dtype(array) == spec.dtype
            and array.ndim == len(spec.shape)
            and all(wanted in (None, size) for size, wanted in zip(array.shape, spec.shape, strict=True))
        )
        if not fits:
            wanted = ", ".join("any" if size is None else str(size) for size in spec.shape)
            raise ServeError(
                f"{name} gave {given} for its output {spec.name!r}, expected {spec.dtype} [{wanted}]",
                next_step="let predict return the same names, types and shapes for every batch",
                status=500,
            )


def attempt(run: Any, name: str) -> Any:  # noqa: ANN401 - passes on what it gives
    """Run something at the start: whatever fails there is a model that cannot be served."""
    try:
        return run()
    except ShoalError as error:
        raise PackageError(
            f"{name} cannot be served: {error.message}", next_step="call predict on its example, and correct it"
        ) from error


def _instance(model: Any, name: str) -> Any:  # noqa: ANN401 - as above
    if not isinstance(model, type):
        return model
    try:
        return model()
    except Exception as error:  # the boundary to the user's code
        _LOG.exception("cannot make a %s", name)
        raise PackageError(
            f"cannot make a {name}: {type(error).__name__}: {error}",
            next_step="let it be made without arguments, or give start an instance",
        ) from error


def _dtype(array: Array) -> str:
    return "string" if array.dtype.kind in "UOT" else array.dtype.name
