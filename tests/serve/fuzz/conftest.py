"""The targets, which lie beside the tests as a program of their own."""

import importlib
import sys
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def fuzz() -> ModuleType:
    """The module of the targets, with their seeds."""
    folder = str(Path(__file__).parent)
    sys.path.insert(0, folder)
    try:
        return importlib.import_module("targets")
    finally:
        sys.path.remove(folder)
