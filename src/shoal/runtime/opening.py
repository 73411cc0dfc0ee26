"""Runtimes by name, as settings and command lines give them."""

from shoal.base import ConfigError
from shoal.runtime.base import Runtime
from shoal.runtime.local import LocalRuntime

_KNOWN = {"local": LocalRuntime}


def open_runtime(runtime: str | Runtime) -> Runtime:
    """The runtime of this name; a runtime itself comes back as it is.

    Raises:
        ConfigError: no runtime has this name.

    >>> type(open_runtime("local")).__name__
    'LocalRuntime'
    """
    if not isinstance(runtime, str):
        return runtime
    if runtime not in _KNOWN:
        raise ConfigError(f"there is no runtime {runtime!r}", next_step=f"use one of: {', '.join(sorted(_KNOWN))}")
    return _KNOWN[runtime]()
