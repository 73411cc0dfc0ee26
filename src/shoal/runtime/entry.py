"""Finding the callable that a process was told to run; kept apart as every child imports it."""

import importlib
from collections.abc import Callable
from typing import Any


def find_entry(module: str | None, qualname: str, payload: bytes | None) -> Callable[..., Any]:
    """The callable that `payload` holds or, without one, that stands as `qualname` in `module`."""
    found: Any
    if payload is not None:
        import pickle

        found = pickle.loads(payload)  # noqa: S301  # made by a process of this tree, came over a private socket
    else:
        found = importlib.import_module(module or "")
        for name in qualname.split("."):
            found = getattr(found, name)
    entry: Callable[..., Any] = found
    return entry
