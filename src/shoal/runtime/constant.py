"""A value as text that is the same in every process: what a step's constants, defaults and closures are keyed by."""

import copyreg
import sys
import threading
import types
from collections.abc import Callable
from typing import Any

from shoal.base import ShoalError, digest_bytes, is_handle

# A reference to code (function, class, module) is told by name; who asks follows it.
Refer = Callable[[object], str | None]
Complain = Callable[[str], None]

_CONTAINERS = (list, tuple, dict, set, frozenset, types.MappingProxyType)
_PLAIN = (type(None), bool, int, float, complex, str, bytes, bytearray, range, slice, type(...), type(NotImplemented))
# These hold no value that a result could depend on.
_STATELESS = (
    type(threading.Lock()),
    type(threading.RLock()),
    threading.local,
    threading.Event,
    threading.Condition,
    types.MemberDescriptorType,
    types.GetSetDescriptorType,
    types.WrapperDescriptorType,
    types.MethodDescriptorType,
    types.ClassMethodDescriptorType,
    types.MethodWrapperType,
)
_STATELESS_MODULES = frozenset({"weakref", "_weakref", "contextvars", "_contextvars", "typing", "_abc", "_thread"})


class UntoldError(Exception):
    """A value holds something that cannot be described; the text says what."""


class Describer:
    """Writes values as text that differs when the value differs, and is equal for equal values in any process.

    Containers go by their items, arrays and handles by their content, other objects by what pickling would take apart,
    without pickling them. Code inside is handed to `refer`. An object met again, under whatever name, is told by where
    it was met first. For one thread.

    Args:
        refer: returns the label of a piece of code, None for any other value.
        is_opaque: tells for a class whether its objects keep caches inside, which come and go with their use: these
            cannot be described.
    """

    def __init__(self, refer: Refer, is_opaque: Callable[[type], bool]) -> None:
        self._refer = refer
        self._is_opaque = is_opaque
        self._complain: Complain | None = None
        self._name = ""
        self._num_met = 0
        # By identity; holds the objects, so that an identity is not used again while this one lives.
        self._met: dict[int, tuple[str, object]] = {}

    def describe(self, name: str, value: object, complain: Complain | None = None) -> str:
        """Return the text of a value that is known as `name`.

        Raises:
            UntoldError: something inside cannot be described, and there is no `complain`, which would get the words
                for it; its type alone stands for it then.
        """
        # References to code queue it only: no other call comes between.
        self._name, self._num_met, self._complain = name, 0, complain
        num_before = len(self._met)
        try:
            return self._text(value)
        except UntoldError:
            # What was met on the way was not told after all.
            for key in list(self._met)[num_before:]:
                del self._met[key]
            raise

    def _text(self, value: object) -> str:
        kind = type(value)
        if kind in _PLAIN:
            return f"{kind.__name__}:{value!r}"
        if kind not in _CONTAINERS and (label := self._refer(value)) is not None:
            return f"code:{label}"
        # Whether two equal tuples are one object depends on how the module was loaded (compiled now, or from a .pyc).
        if kind not in (tuple, frozenset):
            if id(value) in self._met:
                return f"again:{self._met[id(value)][0]}"
            self._num_met += 1
            self._met[id(value)] = (f"{self._name}:{self._num_met}", value)
        return self._container(value) or self._content(value) or self._taken_apart(value)

    def _container(self, value: object) -> str | None:
        match value:
            case list() | tuple() if type(value) in (list, tuple):
                return f"{type(value).__name__}[{','.join(map(self._text, value))}]"
            case dict() | types.MappingProxyType() if type(value) in (dict, types.MappingProxyType):
                return f"dict[{','.join(f'{self._text(key)}={self._text(item)}' for key, item in value.items())}]"
            case set() | frozenset() if type(value) in (set, frozenset):
                return f"{type(value).__name__}[{','.join(sorted(map(self._text, value)))}]"
        return None

    def _content(self, value: object) -> str | None:
        numpy = sys.modules.get("numpy")
        kind = type(value)
        if numpy is not None and kind is numpy.ndarray and not value.dtype.hasobject:  # type: ignore[attr-defined]  # it is an array
            array: Any = value
            return f"array:{array.dtype.str}{array.shape}{digest_bytes(array.tobytes())}"
        if isinstance(value, _STATELESS) or kind.__module__ in _STATELESS_MODULES or kind is object:
            return f"object:{_type_name(value)}"
        if isinstance(value, types.MethodType | types.BuiltinFunctionType):
            function = (
                value.__func__ if isinstance(value, types.MethodType) else f"{value.__module__}.{value.__qualname__}"
            )
            return f"method:{self._text(function)} of {self._text(value.__self__)}"
        if is_handle(value):
            try:
                return f"handle:{value.kind}:{value.digest}"
            except ShoalError as error:
                self._note(f"{self._name} holds a {value.kind} handle that cannot be read: {error.message}")
                return f"handle:{value.kind}"
        return None

    def _taken_apart(self, value: object) -> str:
        reduced = None if self._is_opaque(type(value)) else _reduced(value)
        if reduced is None:
            self._note(f"{self._name} holds a {_type_name(value)}, whose value cannot be told")
            return f"object:{self._text(type(value))}"
        if isinstance(reduced, str):
            return f"object:{self._text(type(value))}:{reduced}"
        return f"object:{','.join(map(self._text, reduced))}"

    def _note(self, words: str) -> None:
        if self._complain is None:
            raise UntoldError(words)
        self._complain(words)


def _reduced(value: object) -> str | list[object] | None:
    try:
        kind = type(value)
        registered = kind in copyreg.dispatch_table
        reduced: Any = copyreg.dispatch_table[kind](value) if registered else value.__reduce_ex__(4)
        if isinstance(reduced, str):
            return reduced
        function, arguments, state, items, pairs = (*reduced, None, None, None)[:5]
        return [function, arguments, state, *(list(part) if part is not None else None for part in (items, pairs))]
    except Exception:  # noqa: BLE001 - the boundary to any class's own pickling code
        return None


def _type_name(value: object) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}"
