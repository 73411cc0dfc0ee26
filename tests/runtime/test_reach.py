"""A change that can change a result changes the digest; a change that cannot, does not; what is unseen is told."""

import importlib
import sys
import textwrap

import pytest

from shoal.runtime import code_digest

STEPS = """
    import functools
    from dataclasses import dataclass

    import numpy as np

    import helpers
    from helpers import imported

    SCALE = 2
    TABLE = {"a": helpers.from_table}

    class Base:
        def weight(self):
            return 3

    class Model(Base):
        size = 4
        def predict(self, x):
            return x * self.weight()
        @staticmethod
        def fixed():
            return 1
        @property
        def name(self):
            return "model"

    @dataclass(frozen=True)
    class Config:
        rate: float = 0.5

    def make(amount):
        def inner(x):
            return x + amount
        return inner

    add = make(10)
    partial = functools.partial(imported, y=5)

    @functools.lru_cache
    def cached(x):
        return x + 1

    def unused():
        return 0

    def step(x, power=2):
        # a comment
        local = [i for i in range(3)]
        model = Model()
        rate = Config().rate
        total = helpers.scale(x) + imported(x) + add(x) + partial(x) + cached(x) + TABLE["a"](x)
        return SCALE * total ** power + model.predict(x) * rate + np.float64(local[0])

    def step_with_import(x):
        from helpers import lazily
        import helpers as h
        return lazily(x) + h.aliased(x)
"""
HELPERS = """
    FACTOR = 7
    def scale(x):
        return x * FACTOR
    def imported(x, y=1):
        return x + y
    def from_table(x):
        return x
    def lazily(x):
        return x
    def aliased(x):
        return x
    def unused():
        return 1
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Write modules into a fresh folder on the import path and load them anew."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    written = set()

    def load(main="steps", **sources):
        for name, source in sources.items():
            (tmp_path / f"{name}.py").write_text(textwrap.dedent(source))
        written.update(sources)
        for name in written:
            sys.modules.pop(name, None)
        importlib.invalidate_caches()
        return importlib.import_module(main)

    yield load
    for name in written:
        sys.modules.pop(name, None)


CHANGES = {
    "global constant": ("steps", "SCALE = 2", "SCALE = 3"),
    "body": ("steps", "SCALE * total", "SCALE + total"),
    "default argument": ("steps", "power=2", "power=3"),
    "method of a class": ("steps", "x * self.weight()", "x + self.weight()"),
    "class attribute": ("steps", "size = 4", "size = 5"),
    "base class": ("steps", "return 3", "return 4"),
    "static method": ("steps", "        return 1", "        return 2"),
    "property": ("steps", '"model"', '"other"'),
    "dataclass default": ("steps", "0.5", "0.6"),
    "value in a closure": ("steps", "make(10)", "make(11)"),
    "body of a closure": ("steps", "x + amount", "x - amount"),
    "partial's argument": ("steps", "y=5", "y=6"),
    "cached function": ("steps", "return x + 1", "return x + 2"),
    "helper in another module": ("helpers", "return x * FACTOR", "return x / FACTOR"),
    "constant of a helper": ("helpers", "FACTOR = 7", "FACTOR = 8"),
    "imported helper": ("helpers", "return x + y", "return x - y"),
    "default of a helper": ("helpers", "y=1", "y=2"),
    "function in a table": ("helpers", "def from_table(x):\n        return x", "def from_table(x):\n        return -x"),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_change_of_what_is_reached_changes_the_digest(project, what):
    module, old, new = CHANGES[what]
    sources = {"steps": STEPS, "helpers": HELPERS}
    before = code_digest(project(**sources).step)

    assert old in sources[module]
    after = code_digest(project(**{**sources, module: sources[module].replace(old, new, 1)}).step)

    assert after.digest != before.digest
    assert set(after.parts) == set(before.parts)


@pytest.mark.parametrize("name", ["lazily", "aliased"])
def test_an_import_inside_a_function_is_followed(project, name):
    before = code_digest(project(steps=STEPS, helpers=HELPERS).step_with_import)
    changed = HELPERS.replace(f"def {name}(x):\n        return x", f"def {name}(x):\n        return -x")

    after = code_digest(project(steps=STEPS, helpers=changed).step_with_import)

    assert [part for part in after.parts if after.parts[part] != before.parts[part]] == [f"helpers.{name}"]


def test_comments_docstrings_layout_and_what_is_not_reached_do_not_count(project):
    before = code_digest(project(steps=STEPS, helpers=HELPERS).step)
    documented = 'def predict(self,\n                x):\n            """Say something."""'
    steps = STEPS.replace("# a comment", "# another comment\n").replace("def predict(self, x):", documented)
    steps = steps.replace("    def unused():\n        return 0", "").replace("(i for i in", "(i\n   for i in")

    after = code_digest(project(steps=steps, helpers=HELPERS.replace("def unused():\n        return 1", "")).step)

    assert after == before


def test_the_part_that_changed_bears_its_name(project):
    before = code_digest(project(steps=STEPS, helpers=HELPERS).step)

    after = code_digest(project(steps=STEPS, helpers=HELPERS.replace("FACTOR = 7", "FACTOR = 8")).step)

    assert [part for part in after.parts if after.parts[part] != before.parts[part]] == ["helpers.FACTOR"]


def test_packages_are_named_with_their_versions(project):
    import numpy as np

    found = code_digest(project(steps=STEPS, helpers=HELPERS).step)

    assert found.packages["numpy"] == np.__version__
    assert found.packages["python"] == f"{sys.version_info.major}.{sys.version_info.minor}"


def test_a_global_patched_in_memory_counts(project):
    steps = project(steps=STEPS, helpers=HELPERS)
    before = code_digest(steps.step)

    steps.helpers.FACTOR = 100

    assert code_digest(steps.step).digest != before.digest


def test_a_file_edited_but_not_loaded_again_does_not_count(project, tmp_path):
    steps = project(steps=STEPS, helpers=HELPERS)
    original = (tmp_path / "helpers.py").read_text()
    expected = code_digest(project(steps=STEPS, helpers=HELPERS).step).parts["helpers.scale"]
    steps = project(steps=STEPS, helpers=HELPERS)

    (tmp_path / "helpers.py").write_text(original.replace("return x * FACTOR", "return x / FACTOR"))
    edited = code_digest(steps.step).parts["helpers.scale"]
    edited_and_loaded = code_digest(project(steps=STEPS, helpers=HELPERS.replace("x * FACTOR", "x / FACTOR")).step)

    # The running code is the old one: it must never be taken for the new one. (Its bytecode may stand for it.)
    assert edited != edited_and_loaded.parts["helpers.scale"]
    assert expected != edited_and_loaded.parts["helpers.scale"]


def test_a_reloaded_module_counts_as_it_is_now(project, tmp_path):
    steps = project(steps=STEPS, helpers=HELPERS)
    before = code_digest(steps.step)

    (tmp_path / "helpers.py").write_text(textwrap.dedent(HELPERS).replace("x * FACTOR", "x / FACTOR"))
    importlib.reload(sys.modules["helpers"])

    assert code_digest(steps.step).parts["helpers.scale"] != before.parts["helpers.scale"]


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ("eval('x')", "builtins.eval"),
        ("__import__('helpers')", "builtins.__import__"),
        ("importlib.import_module('helpers')", "importlib.import_module"),
        ("subprocess.run(['ls'])", "subprocess.run"),
        ("os.system('ls')", "posix.system"),
    ],
)
def test_a_call_that_cannot_be_followed_is_told(project, body, named):
    source = f"import importlib, os, subprocess\ndef step(x):\n    return {body}\n"

    found = code_digest(project(steps=source).step)

    assert found.unseen == (f"steps.step calls {named}: what it runs is not followed",)


@pytest.mark.parametrize("body", ["os.environ['A']", "environ.get('A')"])
def test_reading_the_environment_is_told(project, body):
    found = code_digest(project(steps=f"import os\nfrom os import environ\ndef step(x):\n    return {body}\n").step)

    assert found.unseen == ("steps.step reads the environment: its variables do not count",)
    assert set(found.parts) == {"steps.step"}


def test_a_module_used_as_a_value_counts_whole(project):
    source = "import helpers\ndef step(x, name):\n    return getattr(helpers, name)(x)\n"
    before = code_digest(project(steps=source, helpers=HELPERS).step)

    after = code_digest(project(steps=source, helpers=HELPERS.replace("return 1", "return 2")).step)

    assert after.digest != before.digest


def test_a_constant_that_cannot_be_told_is_told(project):
    found = code_digest(project(steps="items = (i for i in ())\ndef step():\n    return items\n").step)

    assert found.unseen == ("steps.items holds a builtins.generator, whose value cannot be told",)


def test_a_private_cache_does_not_count_and_is_told(project):
    source = "_cache = {}\ndef step(x):\n    _cache[x] = 1\n    return x\n"
    steps = project(steps=source)
    before = code_digest(steps.step)

    steps.step(3)

    assert code_digest(steps.step) == before
    assert before.unseen == ("steps._cache is changed while the program runs: its value does not count",)


def test_functions_that_call_each_other_are_followed_once(project):
    source = "def even(n):\n    return n == 0 or odd(n - 1)\ndef odd(n):\n    return n != 0 and even(n - 1)\n"

    found = code_digest(project(steps=source).even)

    assert set(found.parts) == {"steps.even", "steps.odd"}


def test_two_closures_of_one_function_both_count(project):
    source = "def make(a):\n    return lambda x: x + a\nfirst, second = make(1), make({})\n"
    source += "def step(x):\n    return first(x), second(x)\n"
    before = code_digest(project(steps=source.format(2)).step)

    after = code_digest(project(steps=source.format(3)).step)

    assert before.digest != after.digest


def test_a_function_without_source_counts_by_its_bytecode():
    def define(body):
        space = {"__name__": "nowhere"}
        exec(f"def step(x):\n    return {body}", space)
        return code_digest(space["step"])

    assert define("x + 1") == define("x + 1")
    assert define("x + 1").digest != define("x + 2").digest
