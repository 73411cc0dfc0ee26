"""The walk follows code through everything that Python lets stand between a name and a function."""

import importlib
import os
import sys
import textwrap

import pytest

from shoal.runtime.walk import Walk


@pytest.fixture
def parts(tmp_path, monkeypatch):
    """Write a package `proj` of modules, load it, and return the names and the walk of what `proj.main.f` reaches."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    (tmp_path / "proj").mkdir()

    def walk(main, **modules):
        for name, source in {"__init__": "", "main": main, **modules}.items():
            path = tmp_path / "proj" / f"{name}.py"
            path.write_text(textwrap.dedent(source))
            os.utime(path, (1, 1))
        for name in [name for name in sys.modules if name.partition(".")[0] == "proj"]:
            sys.modules.pop(name)
        importlib.invalidate_caches()
        made = Walk(frozenset({"proj"}), is_opaque=lambda _: False, complains=True)
        made.follow("it", importlib.import_module("proj.main").f)
        return made

    yield walk
    for name in [name for name in sys.modules if name.partition(".")[0] == "proj"]:
        sys.modules.pop(name)


def test_the_function_under_a_decorator_is_followed_and_so_is_the_decorators_wrapper(parts):
    source = """
        import functools
        def scaled(by):
            def decorate(function):
                @functools.wraps(function)
                def wrapper(x):
                    return by * function(x)
                return wrapper
            return decorate
        @scaled(3)
        def g(x):
            return x
        def f(x):
            return g(x)
    """

    found = parts(source).parts

    assert {"proj.main.f", "proj.main.g"} < set(found)
    assert found != parts(source.replace("scaled(3)", "scaled(4)")).parts
    assert found != parts(source.replace("by * function", "by + function")).parts


def test_a_function_under_a_librarys_decorator_is_followed(parts):
    source = """
        import contextlib
        @contextlib.contextmanager
        def g():
            yield 1
        def f():
            with g() as x:
                return x
    """

    assert "proj.main.g" in parts(source).parts


def test_every_body_of_a_dispatched_function_is_followed(parts):
    source = """
        import functools
        @functools.singledispatch
        def g(x):
            return x
        @g.register
        def g_int(x: int):
            return 2 * x
        def f(x):
            return g(x)
    """

    assert {"proj.main.g", "proj.main.g_int"} < set(parts(source).parts)


@pytest.mark.parametrize(
    "body",
    [
        "from proj.sub import g\n    return g()",
        "from .sub import g\n    return g()",
        "from . import sub\n    return sub.g()",
        "import proj.sub\n    return proj.sub.g()",
        "import proj.sub as s\n    return s.g()",
        "import proj.sub, proj.other\n    return proj.sub.g()",
        "from proj import sub as s\n    def inner():\n        return s.g()\n    return inner()",
    ],
)
def test_every_form_of_import_inside_a_function_is_followed(parts, body):
    found = parts(f"def f():\n    {body}\n", sub="def g():\n    return 1\n", other="x = 1\n").parts

    assert "proj.sub.g" in found


def test_an_import_that_fails_here_is_told(parts):
    found = parts("def f():\n    from proj.absent import g\n    return g()\n")

    assert found.unseen() == (
        "proj.main.f imports proj.absent, which cannot be imported here (No module named 'proj.absent')",
    )


def test_a_constant_is_named_where_it_is_defined(parts):
    found = parts("from proj.sub import A as B\ndef f():\n    return B\n", sub="A = 1\n").parts

    assert set(found) == {"proj.main.f", "proj.sub.A"}


def test_a_name_given_by_a_lazy_module_is_followed(parts):
    face = "def __getattr__(name):\n    from proj import sub\n    return getattr(sub, name)\n"

    found = parts("from proj import face\ndef f():\n    return face.g()\n", face=face, sub="def g():\n    return 1\n")

    assert "proj.sub.g" in found.parts


def test_a_bound_method_counts_with_its_object(parts):
    source = "class C:\n    def __init__(self, x):\n        self.x = x\n    def m(self):\n        return self.x\n"
    source += "g = C({}).m\ndef f():\n    return g()\n"

    assert "proj.main.C.m" in parts(source.format(1)).parts
    assert parts(source.format(1)).parts != parts(source.format(2)).parts


def test_what_cannot_be_described_counts_by_the_statement_that_makes_it(parts):
    source = "def make():\n    yield {}\ng = make()\ndef f():\n    return next(g)\n"
    found = parts(source.format(1))

    assert found.unseen() == ("told by the statement that makes it, not by its value: proj.main.g",)
    assert "proj.main.make" in found.parts
    assert found.parts != parts(source.format(2)).parts


def test_local_names_are_not_taken_for_globals(parts):
    found = parts("x = [1]\ndef f(x):\n    y = x\n    return y\ny = 2\n").parts

    assert set(found) == {"proj.main.f"}


def test_two_functions_of_one_name_are_both_there(parts):
    source = "g = lambda: 1\nh = lambda: 2\ndef f():\n    return g() + h()\n"

    assert set(parts(source).parts) == {"proj.main.f", "proj.main.<lambda>", "proj.main.<lambda> #2"}


def test_a_private_object_that_changes_itself_counts_by_its_statement(parts):
    source = """
        class Cache:
            def __init__(self, size):
                self.size, self.kept = size, {{}}
            def get(self, x):
                self.kept[x] = x
                return x
        _cache = Cache({})
        def f(x):
            return _cache.get(x)
    """
    found = parts(source.format(1))
    before = dict(found.parts)

    sys.modules["proj.main"].f(3)

    again = Walk(frozenset({"proj"}), is_opaque=lambda _: False, complains=True)
    again.follow("it", sys.modules["proj.main"].f)
    assert again.parts == before
    assert again.unseen() == ("proj.main._cache is changed while the program runs: its value does not count",)
    assert before != parts(source.format(2)).parts
    assert "proj.main.Cache.get" in before


def test_what_a_library_puts_on_a_class_later_does_not_count(parts):
    found = parts("class C:\n    x = 1\ndef f():\n    return C\n")
    before = dict(found.parts)

    sys.modules["proj.main"].C.__library_cache__ = object()

    again = Walk(frozenset({"proj"}), is_opaque=lambda _: False, complains=True)
    again.follow("it", sys.modules["proj.main"].f)
    assert (again.parts, again.unseen()) == (before, ())
