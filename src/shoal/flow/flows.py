"""A flow: a function whose calls of steps become a graph."""

import functools
import inspect
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar

from shoal.base import ConfigError, InputError
from shoal.flow.graph import Graph, recording
from shoal.flow.outcome import FlowRun, Progress, StepPlan

if TYPE_CHECKING:
    from shoal.store import Store

P = ParamSpec("P")
R = TypeVar("R")


class Flow(Generic[P, R]):
    """What `@flow` makes of a function. Calling it calls the function; `run` builds the graph and runs that."""

    __wrapped__: Callable[P, R]

    def __init__(self, function: Callable[P, R]) -> None:
        functools.update_wrapper(self, function)
        self.function = function
        self.name = f"{_module_name(function)}.{function.__qualname__}"
        self.signature = inspect.signature(function)
        taken = {"store", "runtime", "parallel", "force", "progress"} & set(self.signature.parameters)
        if taken:
            raise ConfigError(
                f"flow {self.name!r} has parameters named {sorted(taken)}, which are run()'s own",
                next_step="rename the parameters",
            )

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function; its steps are plain functions then."""
        return self.function(*args, **kwargs)

    def run(
        self,
        *,
        store: "Store | str | Path | None" = None,
        runtime: str = "local",
        parallel: int | None = None,
        force: bool = False,
        progress: Progress | None = None,
        **inputs: Any,  # noqa: ANN401 - the flow's own parameters
    ) -> FlowRun:
        """Run the flow, reusing every kept result whose key is the same.

        Killed at any instant, the next run computes only what was not finished. Runs at the same time, in any process,
        compute a key once. A step that fails stops only those that need its result.

        Args:
            store: where results are kept; None opens the nearest `.shoal`.
            runtime: "local": steps run in threads of this process.
            parallel: processors that steps may take together; None for all of this machine.
            force: compute every step, and keep the new results.
            progress: called in this thread with each outcome as it comes.
            inputs: the flow's arguments, by name.

        Raises:
            StepError: a step failed; its `step`, `inputs` and traceback tell which and how.
            InputError: the inputs do not fit the flow's signature, or a result is looked into while the flow is built.
        """
        # Whoever only defines steps does not wait for what runs them.
        from shoal.flow.claims import Claims
        from shoal.flow.engine import Engine
        from shoal.flow.memo import FlowMemo

        if runtime != "local":
            raise ConfigError(f"runtime={runtime!r} is not known to flows: expected 'local'", next_step="leave it out")
        if parallel is not None and parallel < 1:
            raise ConfigError(f"parallel={parallel} must be >= 1", next_step="leave it out to use all processors")
        graph, returned = self._build(inputs)
        with _opened(store) as opened:
            claims = Claims(opened)
            try:
                return Engine(
                    graph,
                    returned,
                    memo=FlowMemo(opened, self.name),
                    claims=claims,
                    capacity=parallel or _num_processors(),
                    force=force,
                    home=str(opened.home),
                ).run(progress)
            finally:
                claims.close()

    def explain(self, *, store: "Store | str | Path | None" = None, **inputs: Any) -> tuple[StepPlan, ...]:  # noqa: ANN401 - as in run
        """Return what `run` with these inputs would do with each step, and which part of its key changed, by name."""
        from shoal.flow.explanation import plan
        from shoal.flow.memo import FlowMemo

        graph, _ = self._build(inputs)
        with _opened(store) as opened:
            return plan(graph, FlowMemo(opened, self.name))

    def __repr__(self) -> str:
        return f"<flow {self.name}>"

    def _build(self, inputs: dict[str, Any]) -> tuple[Graph, object]:
        try:
            bound = self.signature.bind(**inputs)
        except TypeError as error:
            raise InputError(
                f"cannot run flow {self.name}: {error}; its signature is {self.signature}",
                next_step="pass the flow's arguments to run() by name",
            ) from error
        graph = Graph()
        with recording(graph):
            return graph, self.function(*bound.args, **bound.kwargs)


def flow(function: Callable[P, R], /) -> Flow[P, R]:
    """Make a function that calls steps a flow.

    While `run` builds the graph, a step's call returns a handle of its result, which other steps take: alone or inside
    lists, tuples, dicts and dataclasses. The function itself must not look into results; that is what steps are for.
    """
    return Flow(function)


@contextmanager
def _opened(store: "Store | str | Path | None") -> Iterator["Store"]:
    import shoal.store

    if store is None or isinstance(store, str | Path):
        with shoal.store.open(store) as opened:
            yield opened
    else:
        yield store


def _module_name(function: Callable[..., object]) -> str:
    if function.__module__ != "__main__":
        return function.__module__
    # A script's flow finds its results again when it is imported.
    file = getattr(sys.modules["__main__"], "__file__", None)
    return Path(file).stem if file else "__main__"


def _num_processors() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
