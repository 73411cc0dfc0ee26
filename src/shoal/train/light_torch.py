"""Keeps optimisers from loading torch's compiler: 800 modules, and as much start-up time as all the rest of torch.

Every optimiser imports `torch._dynamo`, when it is made and at each step, only to say "do not compile this" to a
compiler that most runs never use. For that moment a stand-in answers; at any other question it makes way for the real
package. Where that is loaded already, as after `torch.compile`, nothing is done.
"""

import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import torch

_NAME = "torch._dynamo"


class _StandIn(ModuleType):
    def disable(self, function: Callable[..., Any], *_: object, **__: object) -> Callable[..., Any]:
        return function

    def graph_break(self, *_: object, **__: object) -> None:
        return None

    def __getattr__(self, name: str) -> object:
        if sys.modules.get(_NAME) is self:
            del sys.modules[_NAME]
        return getattr(importlib.import_module(_NAME), name)


@contextmanager
def without_compiler() -> Iterator[None]:
    """Make and step optimisers in this block, from one thread; a few microseconds."""
    if _NAME in sys.modules:
        yield
        return
    stand_in = _StandIn(_NAME)
    sys.modules[_NAME] = stand_in
    vars(torch)["_dynamo"] = stand_in
    try:
        yield
    finally:
        if sys.modules.get(_NAME) is stand_in:
            del sys.modules[_NAME]
            del vars(torch)["_dynamo"]
