"""Runtimes by name, as settings and command lines give them."""

from shoal.base import ConfigError
from shoal.runtime.base import Runtime
from shoal.runtime.local import LocalRuntime


def open_runtime(runtime: str | Runtime) -> Runtime:
    """The runtime of this name ("local", "ray", "ray://host:10001"); a runtime itself comes back as it is.

    Raises:
        ConfigError: no runtime has this name.
        UnsupportedError: what it needs is not installed.

    >>> type(open_runtime("local")).__name__
    'LocalRuntime'
    """
    if not isinstance(runtime, str):
        return runtime
    if runtime == "local":
        return LocalRuntime()
    if runtime == "ray" or runtime.startswith("ray://"):
        # Only who asks for Ray pays for loading it, a second or more.
        from shoal.runtime.ray import RayRuntime

        return RayRuntime(None if runtime == "ray" else runtime)
    raise ConfigError(f"there is no runtime {runtime!r}", next_step="use one of: local, ray, ray://host:10001")
