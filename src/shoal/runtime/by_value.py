"""Python objects as bytes for another process of this tree.

cloudpickle copies what lives in `__main__`, a notebook or a function body, and names everything else by its module. A
module that this process loaded by a way of its own (a test runner, a plugin loader) has a name that no fresh
interpreter could import; objects of such a module are copied too.
"""

import importlib.machinery
import os
import pickle
import sys
import threading
from collections.abc import Sequence
from functools import cache
from io import BytesIO
from types import FunctionType, ModuleType

import cloudpickle

from shoal.base import InputError

# cloudpickle keeps one list per process of the modules to copy.
_registry_lock = threading.Lock()


def dumps(value: object) -> bytes:
    """The value as bytes, with the code of everything that another process could not import.

    Raises:
        InputError: it holds something that only this process can use (a lock, an open file, a running thread).
    """
    sink = BytesIO()
    with _registry_lock:
        pickler = _Pickler(sink)
        try:
            pickler.dump(value)
        except (TypeError, AttributeError, ValueError, pickle.PicklingError, RecursionError) as error:
            raise InputError(
                f"cannot take {value!r:.200} to another process: {error}",
                next_step="pass plain values, arrays or handles, and open files, locks and connections in the function",
            ) from error
        finally:
            pickler.forget_modules()
    return sink.getvalue()


def loads(payload: bytes) -> object:
    """The value that `dumps` turned into these bytes, which must come from a process of this tree."""
    return pickle.loads(payload)  # noqa: S301  # from our own supervisor or worker, over a private socket


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle ships no types
    def __init__(self, sink: BytesIO) -> None:
        super().__init__(sink, protocol=pickle.HIGHEST_PROTOCOL)
        self._copied: list[ModuleType] = []

    def reducer_override(self, obj: object) -> object:
        if isinstance(obj, type | FunctionType):
            module = sys.modules.get(obj.__module__ or "")
            if module is not None and module not in self._copied and not is_importable(module.__name__):
                cloudpickle.register_pickle_by_value(module)
                self._copied.append(module)
        return super().reducer_override(obj)

    def forget_modules(self) -> None:
        for module in self._copied:
            cloudpickle.unregister_pickle_by_value(module)


@cache
def is_importable(name: str) -> bool:
    """Whether a fresh interpreter with our import path finds, under this name, the module that we have loaded."""
    module = sys.modules.get(name)
    if name == "__main__" or module is None:
        return False
    file = getattr(module, "__file__", None)
    if not file or not os.path.isfile(file):  # noqa: PTH113  # runs once per module of every pickled class
        return True  # Built in, or made by another module when that one is imported.
    spec = _search(name)
    if spec is not None and not spec.has_location:
        return True  # Frozen into the interpreter, as `os` and `abc` are, although they also name a file.
    return spec is not None and spec.origin is not None and os.path.realpath(spec.origin) == os.path.realpath(file)


def _search(name: str) -> importlib.machinery.ModuleSpec | None:
    # importlib.util.find_spec would answer from sys.modules, which is the very thing in doubt.
    spec = None
    path: Sequence[str] | None = None
    parts = name.split(".")
    for end in range(1, len(parts) + 1):
        prefix = ".".join(parts[:end])
        found = (finder.find_spec(prefix, path) for finder in sys.meta_path if hasattr(finder, "find_spec"))
        spec = next((candidate for candidate in found if candidate is not None), None)
        if spec is None or (end < len(parts) and spec.submodule_search_locations is None):
            return None
        path = list(spec.submodule_search_locations or ())
    return spec
