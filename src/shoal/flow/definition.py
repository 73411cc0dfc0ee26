"""What is known of a step before it runs: its function and its settings."""

import inspect
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from shoal.base import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Definition:
    """A step's function with its settings, checked; see `step` for what they mean."""

    function: Callable[..., Any]
    memo: bool = True
    cpus: float = 1
    version: str | None = None
    ignore: frozenset[str] = frozenset()
    signature: inspect.Signature = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "signature", inspect.signature(self.function))
        if inspect.iscoroutinefunction(self.function) or inspect.isgeneratorfunction(self.function):
            raise ConfigError(
                f"step {self.name!r} must be a plain function, found a coroutine or generator function",
                next_step="return the finished value, for example a list",
            )
        if not self.cpus > 0:
            raise ConfigError(f"cpus={self.cpus} of step {self.name!r} must be > 0", next_step="leave it out for 1")
        if unknown := sorted(self.ignore - set(self.signature.parameters)):
            raise ConfigError(
                f"step {self.name!r} cannot ignore {unknown}: its parameters are {list(self.signature.parameters)}",
                next_step="name parameters of the function in ignore=",
            )

    @property
    def name(self) -> str:
        """The function's name."""
        return self.function.__name__

    def bind(self, arguments: Mapping[str, object]) -> inspect.BoundArguments:
        """Return the arguments, by parameter, as they are passed to the function."""
        return inspect.BoundArguments(self.signature, OrderedDict(arguments))
