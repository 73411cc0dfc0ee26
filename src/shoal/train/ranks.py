"""Training from every rank of a job that torchrun or Slurm has started, as their users write it: one call in each."""

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar, cast

from shoal.runtime import EnvRuntime, open_runtime

P = ParamSpec("P")
R = TypeVar("R")


def once_per_job(function: Callable[P, R]) -> Callable[P, R]:
    """Let a call with `runtime="env"`, made by all ranks, run in rank 0 and return its result in all.

    The other ranks keep rank 0's workers meanwhile. There are as many workers as ranks unless the call says otherwise.
    A call with another runtime runs as it is.
    """

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        given = cast("dict[str, Any]", kwargs)
        if given.get("runtime", "local") != "env" and not isinstance(given.get("runtime"), EnvRuntime):
            return function(*args, **kwargs)
        runtime = open_runtime(given["runtime"])
        assert isinstance(runtime, EnvRuntime)
        given["runtime"] = runtime
        given.setdefault("workers", runtime.world_size)
        return runtime.lead_or_serve(lambda: function(*args, **kwargs))

    return call
