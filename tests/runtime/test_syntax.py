"""The normal form of a function tells what it says, and nothing of how it is written down."""

import ast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.runtime.syntax import (
    Import,
    names_changed_in_place,
    read_syntax,
    top_level_assignments,
    top_level_imports,
)


def _read(source):
    return read_syntax(ast.parse(source).body[0])


@pytest.mark.parametrize(
    "same",
    [
        "def f(x):\n    return   x+1  # comment",
        'def f(x):\n    """Docs."""\n    return x + 1',
        "def f(x):\n\n    return (x\n        + 1)",
        "def g(x):\n    return x + 1",
        "@decorated\ndef f(x):\n    return x + 1",
        "def f(x=3):\n    return x + 1",
    ],
)
def test_writing_does_not_count(same):
    assert _read(same).digest == _read("def f(x):\n    return x + 1").digest


@pytest.mark.parametrize(
    "other",
    [
        "def f(x):\n    return x + 2",
        "def f(x):\n    return x + 1.0",
        "def f(x):\n    return x - 1",
        "def f(y):\n    return x + 1",
        "def f(*, x):\n    return x + 1",
        "def f(x, /):\n    return x + 1",
        "async def f(x):\n    return x + 1",
        "def f(x):\n    print()\n    return x + 1",
        "def f(x: int):\n    return x + 1",
        "def f(x):\n    def inner(y=2): pass\n    return x + 1",
    ],
)
def test_meaning_counts(other):
    assert _read(other).digest != _read("def f(x):\n    return x + 1").digest


@given(st.text(), st.text())
def test_two_texts_in_the_code_are_told_apart(one, other):
    digests = {_read(f"def f():\n    return [{text!r}, 'x']").digest for text in (one, other)}

    assert len(digests) == len({one, other})


def test_borders_of_lists_count():
    assert _read("def f():\n    g([a], b)").digest != _read("def f():\n    g([a, b])").digest


def test_dotted_names_are_read_whole():
    assert ("np", "linalg", "norm") in _read("def f(x):\n    return np.linalg.norm(x)").chains


def test_imports_inside_are_told():
    found = _read("def f():\n    import a.b\n    import c as d\n    from ..e import g as h").imports

    assert found == (
        Import("a.b", None, 0, "a"),
        Import("c", None, 0, "d"),
        Import("e", "g", 2, "h"),
    )


def test_deep_nesting_is_no_obstacle():
    source = "def f(x):\n    return " + " + ".join(["x"] * 900)

    assert _read(source).chains == (("x",),)


def test_globals_that_functions_change_are_found():
    source = """
cache = {}
seen = []
count = 0
constant = {}
def f(x, local):
    global count
    count += 1
    cache[x] = 1
    seen.append(x)
    local[x] = 1
    own = {}
    own[x] = constant[x]
"""
    assert names_changed_in_place(ast.parse(source)) == {"cache", "seen", "count"}


def test_top_level_statements_are_found_in_branches_too():
    tree = ast.parse("try:\n    from a import b as c\nexcept ImportError:\n    d = 1\ndef f():\n    e = 2\nd += 1\n")

    assert top_level_imports(tree) == {"c": Import("a", "b", 0, "c")}
    assert {name: len(found) for name, found in top_level_assignments(tree).items()} == {"d": 2}


@pytest.mark.parametrize(
    ("body", "changes"),
    [
        ("self.x = 1", True),
        ("self.x += 1", True),
        ("del self.x", True),
        ("self.x[1] = 2", True),
        ("self.x.append(1)", True),
        ("return self.x.get(1)", False),
        ("other.x = self.x", False),
    ],
)
def test_methods_that_change_their_object_are_told(body, changes):
    assert _read(f"def m(self, other):\n    {body}").changes_self is changes
