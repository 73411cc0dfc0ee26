"""How a function or class reaches a process that did not define it."""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import msgspec

from shoal.base import InputError
from shoal.runtime.entry import find_entry


@dataclass(frozen=True, kw_only=True)
class Code:
    """A callable and its configuration, ready to travel; make one with `Code.of`.

    Either `module` is set, and the callable is `qualname` in it, or `payload` holds the callable itself. So code from a
    script or a notebook needs no `__main__` guard: the other process never runs the script again.
    """

    module: str | None
    path: str | None
    qualname: str
    config: Mapping[str, Any]
    preload: tuple[str, ...] = ()
    payload: bytes | None = field(default=None, repr=False)
    target: Callable[..., Any] | None = field(default=None, repr=False, compare=False)

    @classmethod
    def of(
        cls, target: Callable[..., Any], config: Mapping[str, Any] | None = None, *, preload: Sequence[str] = ()
    ) -> "Code":
        """The code of a function, a class, or an object that can be called.

        What stands at the top of an importable module is named; all else (a script's or a notebook's function, a nested
        one, a partial, an instance) is copied with the globals and closures that it uses, as they are now.

        Args:
            target: what will be called in the other process.
            config: JSON-like keyword arguments for it.
            preload: modules that every member needs, without threads or open files of their own: a runtime that can
                forks its members from a process that has loaded them, so that they start in milliseconds.

        Raises:
            InputError: not callable, or it holds something that cannot leave this process.
        """
        if not callable(target):
            raise InputError(
                f"{target!r:.200} cannot run in another process: it is a {type(target).__name__}, not a callable",
                next_step="pass a function, a class or an instance with __call__",
            )
        from shoal.runtime.by_value import dumps

        kind = target if hasattr(target, "__qualname__") else type(target)
        source = sys.modules.get(kind.__module__ or "")
        named = _is_at_top(target)
        return cls(
            module=target.__module__ if named else None,
            path=getattr(source, "__file__", None),
            qualname=kind.__qualname__,
            config=_plain(config or {}),
            preload=tuple(preload),
            payload=None if named else dumps(target),
            target=target,
        )

    @cached_property
    def digest(self) -> str:
        """Digest of the code that the callable is seen to reach (`code_digest`); takes milliseconds when first read."""
        from shoal.runtime.reach import code_digest

        target = self.resolve()
        return code_digest(target if hasattr(target, "__qualname__") else type(target)).digest

    def resolve(self) -> Callable[..., Any]:
        """The callable itself, in any process of this tree; imports its module where that is not loaded yet."""
        if self.target is not None:
            return self.target
        return find_entry(self.module, self.qualname, self.payload)


def _is_at_top(target: Callable[..., Any]) -> bool:
    """Whether `module` and `qualname` lead to this very object in a fresh interpreter too."""
    from shoal.runtime.by_value import is_importable

    found: Any = sys.modules.get(getattr(target, "__module__", None) or "")
    for name in getattr(target, "__qualname__", "<unnamed>").split("."):
        found = getattr(found, name, None)
    return found is target and is_importable(target.__module__)


def _plain(config: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration as plain values and bytes; a mistake is seen here, before any process starts."""
    try:
        plain: dict[str, Any] = msgspec.to_builtins(dict(config), builtin_types=(bytes, bytearray), str_keys=True)
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(
            f"cannot configure a member with {dict(config)!r:.200}: {error}",
            next_step="give JSON-like values, and bind other objects with functools.partial(function, name=value)",
        ) from error
    return plain
