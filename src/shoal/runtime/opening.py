"""Runtimes by name, as settings and command lines give them."""

from functools import cache

from shoal.base import ConfigError
from shoal.runtime.base import Runtime
from shoal.runtime.local import LocalRuntime


def open_runtime(runtime: str | Runtime) -> Runtime:
    """The runtime of this name ("local", "ray", "ray://host:10001", "env"); a runtime itself comes back as it is.

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
        from shoal.runtime.ray.runtime import RayRuntime

        return RayRuntime(None if runtime == "ray" else runtime)
    if runtime == "env":
        return _runtime_of_job()
    raise ConfigError(f"there is no runtime {runtime!r}", next_step="use one of: local, ray, ray://host:10001, env")


@cache
def _runtime_of_job() -> Runtime:
    # One for the process, as the other ranks of its job call one port.
    from shoal.runtime.env.runtime import EnvRuntime

    return EnvRuntime()
