"""A flow knows how each floor's handles are opened before that floor is imported."""

import importlib
from dataclasses import dataclass

import pytest

from shoal.base import File, register_handle
from shoal.flow.handles import OPENERS, handles_in


@pytest.mark.slow
def test_openers_are_those_that_the_floors_register():
    for kind, opener in OPENERS.items():
        module, _, name = opener.partition(":")

        assert callable(getattr(importlib.import_module(module), name))
        # Refused if the floor registered another one.
        register_handle(kind, opener)


@dataclass(frozen=True)
class Pair:
    left: object
    right: object


def test_handles_are_found_wherever_they_stand():
    one, two, three = File("1"), File("2"), File("3")

    assert list(handles_in([1, {"a": (one, "x")}, Pair(two, [three])])) == [one, two, three]
