"""Syntax is taken from a file only where it is the very source of the living code."""

import importlib
import linecache
import sys

import pytest

from shoal.runtime.source import changed_names, imported_as, making_of, syntax_of

BEFORE = "def f(x):\n    return x + 1\n"


@pytest.fixture
def load(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def load(source):
        (tmp_path / "loaded.py").write_text(source)
        sys.modules.pop("loaded", None)
        importlib.invalidate_caches()
        return importlib.import_module("loaded")

    yield load
    sys.modules.pop("loaded", None)


def _run(source, filename):
    space = {}
    exec(compile(source, filename, "exec"), space)
    return space["f"].__code__


def test_lines_before_a_function_do_not_count(load):
    first = syntax_of(load(BEFORE).f.__code__)

    assert syntax_of(load("# more\n\n" + BEFORE).f.__code__) == first


def test_a_file_edited_since_is_not_believed(load, tmp_path):
    old = load(BEFORE).f.__code__

    (tmp_path / "loaded.py").write_text("def f(x):\n    return x + 2\n")

    new = load("def f(x):\n    return x + 2\n").f.__code__
    assert syntax_of(old).digest != syntax_of(new).digest


def test_an_edit_elsewhere_in_the_file_leaves_the_source_believed(load, tmp_path):
    expected = syntax_of(load(BEFORE).f.__code__)
    again = load(BEFORE).f.__code__

    (tmp_path / "loaded.py").write_text("# moved down\n" + BEFORE)

    assert syntax_of(again) == expected


def test_a_notebook_cell_is_read_from_the_line_cache():
    linecache.cache["<cell 1>"] = (len(BEFORE), None, BEFORE.splitlines(keepends=True), "<cell 1>")
    linecache.cache["<cell 2>"] = (9, None, ("# other\n" + BEFORE).splitlines(keepends=True), "<cell 2>")

    assert syntax_of(_run(BEFORE, "<cell 1>")) == syntax_of(_run("# other\n" + BEFORE, "<cell 2>"))


def test_without_source_the_bytecode_counts_with_its_names_and_imports():
    found = syntax_of(_run("def f(x):\n    import json\n    return json.loads(x) + g(x)", "<nowhere>"))

    assert [statement.module for statement in found.imports] == ["json"]
    assert ("g",) in found.chains


@pytest.mark.parametrize(("one", "other"), [("1", "True"), ("0.0", "-0.0"), ("1", "1.0")])
def test_bytecode_tells_equal_constants_of_other_kinds_apart(one, other):
    codes = [_run(f"def f(x):\n    return (x, {value})", "<nowhere>") for value in (one, other)]

    assert syntax_of(codes[0]).digest != syntax_of(codes[1]).digest


def test_lambdas_of_one_line_count_together(load):
    before = load("pair = (lambda x: x, lambda x: -x)\n")
    digests = {syntax_of(function.__code__).digest for function in before.pair}

    after = load("pair = (lambda x: x, lambda x: x * 2)\n")

    assert digests.isdisjoint({syntax_of(function.__code__).digest for function in after.pair})


def test_what_a_module_says_of_its_globals(load, tmp_path):
    load("from json import loads as read\n_cache = {}\ndef f(x):\n    _cache[x] = read(x)\n")
    path = str(tmp_path / "loaded.py")

    assert changed_names(path) == {"_cache"}
    assert imported_as(path, "read").module == "json"
    assert imported_as(path, "f") is None


def test_how_a_global_is_made_is_not_believed_of_a_file_written_since(load, tmp_path):
    load("made = print\n")

    assert making_of(str(tmp_path / "loaded.py"), "made") is None
    assert making_of(linecache.__file__, "cache").digest.startswith("b3:")


def test_a_file_that_is_no_python_says_nothing(tmp_path):
    (tmp_path / "broken.py").write_text("def f(:")

    assert changed_names(str(tmp_path / "broken.py")) == frozenset()
    assert changed_names(str(tmp_path / "absent.py")) == frozenset()
