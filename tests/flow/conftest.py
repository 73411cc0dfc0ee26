"""A store in a folder of its own, and projects written to disk and loaded anew after every edit."""

import importlib
import sys
import textwrap

import pytest

import shoal.store


@pytest.fixture
def store(tmp_path):
    with shoal.store.open(tmp_path / ".shoal") as opened:
        yield opened


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Write modules into a fresh folder on the import path and load them anew."""
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    written = set()

    def load(main, **sources):
        for name, source in sources.items():
            (folder / f"{name}.py").write_text(textwrap.dedent(source))
        written.update(sources)
        for name in written:
            sys.modules.pop(name, None)
        importlib.invalidate_caches()
        return importlib.import_module(main)

    yield load
    for name in written:
        sys.modules.pop(name, None)
