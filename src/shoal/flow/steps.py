"""A step: a plain function that a flow may memoise and run beside others."""

import functools
from collections.abc import Callable, Sequence
from typing import Generic, ParamSpec, TypeVar, cast, overload

from shoal.base import InputError
from shoal.flow.definition import Definition
from shoal.flow.graph import active_graph

P = ParamSpec("P")
R = TypeVar("R")


class Step(Generic[P, R]):
    """What `@step` makes of a function. Outside a flow, calling it calls the function."""

    __wrapped__: Callable[P, R]

    def __init__(self, definition: Definition) -> None:
        functools.update_wrapper(self, definition.function)
        self.definition = definition

    @property
    def name(self) -> str:
        """The function's name."""
        return self.definition.name

    @property
    def function(self) -> Callable[P, R]:
        """The function itself."""
        return self.definition.function

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function, or while a flow is built, note the call and return a handle of its result."""
        graph = active_graph()
        if graph is None:
            return self.function(*args, **kwargs)
        try:
            bound = self.definition.signature.bind(*args, **kwargs)
        except TypeError as error:
            raise InputError(
                f"cannot call step {self.name!r}: {error}; its signature is {self.name}{self.definition.signature}",
                next_step="correct the call in the flow",
            ) from error
        # While the graph is built a handle stands for the result; for the type checker it is the result.
        return cast("R", graph.add(self.definition, dict(bound.arguments)))

    def __repr__(self) -> str:
        return f"<step {self.name}>"


@overload
def step(function: Callable[P, R], /) -> Step[P, R]: ...
@overload
def step(
    *, memo: bool = ..., cpus: float = ..., version: str | None = ..., ignore: Sequence[str] = ...
) -> Callable[[Callable[P, R]], Step[P, R]]: ...
def step(
    function: Callable[P, R] | None = None,
    /,
    *,
    memo: bool = True,
    cpus: float = 1,
    version: str | None = None,
    ignore: Sequence[str] = (),
) -> Step[P, R] | Callable[[Callable[P, R]], Step[P, R]]:
    """Make a function a step of flows.

    Its result is kept under a key of its code, of all code of yours that it is seen to reach, of its inputs' content
    and of package versions, and reused where that key is the same. It runs in a thread and must not change its inputs.
    Results are plain values, arrays, Arrow tables, handles, and lists, tuples and dicts of these.

    Args:
        function: the function, where the decorator stands without arguments.
        memo: False runs it in every run; the result may then be anything.
        cpus: how many processors it keeps busy; as many steps run at once as fit on the machine.
        version: counts in the key; change it where a result must not be reused for a reason that no code shows.
        ignore: parameters that do not count in the key, such as a folder to work in.

    Raises:
        ConfigError: a coroutine or generator function, `cpus` not positive, or `ignore` names no parameter.
    """

    def make(decorated: Callable[P, R]) -> Step[P, R]:
        return Step(Definition(function=decorated, memo=memo, cpus=cpus, version=version, ignore=frozenset(ignore)))

    return make if function is None else make(function)
