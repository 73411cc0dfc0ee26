"""The reference says what the docstrings say."""

import importlib.util

import pytest


@pytest.mark.slow
def test_python_reference_is_up_to_date(root):
    spec = importlib.util.spec_from_file_location("make_reference", root / "docs" / "make_reference.py")
    maker = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(maker)

    written = (root / "docs" / "reference" / "python.md").read_text(encoding="utf-8")

    assert written == maker.page(), "run: python docs/make_reference.py"
