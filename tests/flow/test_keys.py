"""A key changes with everything that may change a result, and the words name what that was."""

import pytest

from shoal.base import File, InputError
from shoal.flow.definition import Definition
from shoal.flow.keys import KeyMaker, code_facts, what_changed


def _work(x, folder=None):
    return x


def _other(x, folder=None):
    return -x


def _key(function=_work, version=None, ignore=(), **arguments):
    step = Definition(function=function, version=version, ignore=frozenset(ignore))
    return KeyMaker().key_of(step, arguments)


def test_the_same_call_has_the_same_key():
    assert _key(x=[1, {"a": 2}]) == _key(x=[1, {"a": 2}])


@pytest.mark.parametrize(
    ("call", "words"),
    [
        ({"x": 2}, "input x changed"),
        ({"x": 1, "folder": "a"}, "input folder is new"),
        ({}, "input x is gone"),
        ({"x": 1, "version": "b"}, "version: None -> b"),
    ],
)
def test_another_call_has_another_key_and_the_words_say_why(call, words):
    old, new = _key(x=1), _key(**call)

    assert old.digest != new.digest
    assert what_changed(old.facts, new.facts, code_facts(old.code), code_facts(new.code)) == (words,)


def test_another_function_has_another_key():
    old, new = _key(x=1), _key(_other, x=1)

    words = what_changed(old.facts, new.facts, code_facts(old.code), code_facts(new.code))

    assert any(word.endswith("_other is new") for word in words)
    assert what_changed(old.facts, new.facts, None, code_facts(new.code)) == ("its code changed",)


def test_an_ignored_parameter_does_not_count():
    assert _key(x=1, folder="a", ignore=["folder"]).digest == _key(x=1, folder="b", ignore=["folder"]).digest


def test_a_file_counts_by_content_and_its_class_by_code(tmp_path):
    (tmp_path / "one").write_text("x")
    (tmp_path / "two").write_text("x")
    keys = [_key(x=[File(tmp_path / name)]) for name in ("one", "two")]

    assert keys[0].digest == keys[1].digest
    assert any("File" in part for part in keys[0].code.parts) or "shoal" in keys[0].code.packages


def test_a_package_that_changed_is_named_with_both_versions():
    facts = _key(x=1).facts
    old, new = ({"parts": {}, "packages": packages} for packages in ({"numpy": "2.3"}, {"numpy": "2.4", "torch": "2"}))

    words = what_changed({**facts, "code": "a"}, {**facts, "code": "b"}, old, new)

    assert words == ("package numpy: 2.3 -> 2.4", "package torch: none -> 2")


def test_an_input_that_cannot_be_told_is_refused():
    with pytest.raises(InputError, match="generator"):
        _key(x=(i for i in ()))
