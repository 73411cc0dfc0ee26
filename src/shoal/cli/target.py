"""Find the user's own code by `file.py:Name` or `package.module:Name`."""

import importlib
import importlib.util
import sys
from pathlib import Path
from typing import Any

from shoal.base import InputError, NotFoundError


def load_target(address: str) -> Any:  # noqa: ANN401 - whatever the user keeps under that name
    """Import the file or module before the colon and return the object named after it.

    A file is imported under its stem with its folder on the path, so that it finds the modules beside it, as it would
    under `python file.py`; its `__main__` block does not run.

    Raises:
        InputError: the address has no colon.
        NotFoundError: no such file, module or name in it; the message lists what is there.
    """
    place, colon, name = address.partition(":")
    if not (place and colon and name):
        raise InputError(
            f"cannot read {address!r} as the address of code",
            next_step="write it as file.py:Name or package.module:Name",
        )
    module = _import_file(Path(place)) if place.endswith(".py") else _import_module(place)
    if not hasattr(module, name):
        there = ", ".join(sorted(key for key in vars(module) if not key.startswith("_"))) or "nothing"
        raise NotFoundError(
            f"cannot find {name!r} in {place}: it has {there}", next_step=f"write {place}:NAME with one of them"
        )
    return getattr(module, name)


def make_importable(address: str | None) -> None:
    """Let what a record names be found again: by loading its address, or, without one, in the current folder."""
    if address:
        load_target(address)
    else:
        _add_current_folder()


def _import_file(path: Path) -> Any:  # noqa: ANN401 - a module
    if not path.is_file():
        raise NotFoundError(f"cannot find the file {path}", next_step="check the path before the colon")
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    spec = importlib.util.spec_from_file_location(path.stem, path.resolve())
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        # As Python's own import does: a later import must not find half a module.
        del sys.modules[path.stem]
        raise
    return module


def _import_module(name: str) -> Any:  # noqa: ANN401 - a module
    _add_current_folder()
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name.split(".")[0] and error.name != name:
            raise
        raise NotFoundError(
            f"cannot import {name!r}", next_step="write a file as file.py:Name, or run in its folder"
        ) from error


def _add_current_folder() -> None:
    # A console script starts with its own folder on the path, not the reader's: `python -m` would have both.
    if "" not in sys.path:
        sys.path.insert(0, "")
