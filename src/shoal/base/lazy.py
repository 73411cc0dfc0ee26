"""Faces that load their modules when a name is first used, so that `import shoal` stays light."""

import importlib
import sys
from collections.abc import Callable, Mapping


def lazy_face(package: str, names: Mapping[str, str]) -> Callable[[str], object]:
    """Make the `__getattr__` of a package's `__init__.py` (PEP 562).

    The found object is kept in the package's globals, so the cost is paid once per name. Safe under threads: two
    threads that ask at once import the same module and keep the same object.

    Args:
        package: `__name__` of the face.
        names: public name -> where it lives. `"dataset"` is the attribute of the same name in the package's
            `dataset.py`, `"dataset:fn"` another attribute of it, `""` the submodule that bears the public name.

    Returns:
        A function that answers attribute access, and raises AttributeError with Python's own words for other names.
    """

    def load(name: str) -> object:
        target = names.get(name)
        if target is None:
            raise AttributeError(f"module {package!r} has no attribute {name!r}", name=name, obj=sys.modules[package])
        module_name, _, attribute = target.partition(":")
        module = importlib.import_module(f"{package}.{module_name or name}")
        found: object = getattr(module, attribute or name) if module_name else module
        setattr(sys.modules[package], name, found)
        return found

    return load
