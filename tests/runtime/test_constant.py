"""A value's text differs when the value differs, and is the same for equal values."""

import functools
import re
import threading
import types
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.base import File
from shoal.runtime.constant import Describer, UntoldError


def _refer(value):
    is_method = getattr(value, "__self__", None) is not None and not isinstance(value.__self__, types.ModuleType)
    return value.__qualname__ if callable(value) and hasattr(value, "__qualname__") and not is_method else None


def _text(value, **settings):
    return Describer(_refer, settings.pop("is_opaque", lambda _: False)).describe("it", value, **settings)


@dataclass
class Point:
    x: int
    y: object = None


class Colour(Enum):
    RED = 1
    BLUE = 2


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(plain, plain)
def test_plain_values_have_one_text_each(one, other):
    assert (_text(one) == _text(other)) == (repr(one) == repr(other))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (np.arange(3), np.arange(3).astype(np.int32)),
        (np.arange(6), np.arange(6).reshape(2, 3)),
        (np.zeros(2), np.array([0.0, 1.0])),
        (np.array(["a", None], object), np.array(["b", None], object)),
        (Point(1), Point(2)),
        (Point(1, [2]), Point(1, [3])),
        (Colour.RED, Colour.BLUE),
        (Path("a"), Path("b")),
        (re.compile("a"), re.compile("b")),
        (functools.partial(int, base=2), functools.partial(int, base=8)),
        ({1, 2}, frozenset({1, 2})),
        ([1, 2], (1, 2)),
        pytest.param("a".join, "b".join, id="bound methods"),
        (1, True),
    ],
    ids=repr,
)
def test_other_values_differ(one, other):
    assert _text(one) != _text(other)
    assert _text(one) == _text(one)


def test_a_file_counts_by_its_content(tmp_path):
    for name, text in (("one", "x"), ("same", "x"), ("other", "y")):
        (tmp_path / name).write_text(text)
    one, same, other = (_text(File(tmp_path / name)) for name in ("one", "same", "other"))

    assert one == same != other


def test_a_circle_ends():
    circle = [1]
    circle.append(circle)

    assert _text(circle) == "list[int:1,again:it:1]"


def test_equal_tuples_are_told_alike_whether_or_not_they_are_one_object():
    one, other = (1, int("2")), (1, int("2"))

    assert _text([one, one]) == _text([one, other])


def test_an_object_met_before_is_told_by_its_name():
    describer, shared = Describer(_refer, lambda _: False), [1]
    describer.describe("first", shared)

    assert describer.describe("second", [shared]) == "list[again:first:1]"


def test_locks_hold_no_value():
    assert _text(threading.Lock()) == _text(threading.Lock())


def test_what_cannot_be_told_raises_or_is_told_in_words():
    words = []

    with pytest.raises(UntoldError, match=r"it holds a builtins.generator"):
        _text([(i for i in ())])
    _text([(i for i in ())], complain=words.append)

    assert words == ["it holds a builtins.generator, whose value cannot be told"]


def test_a_value_that_could_not_be_told_is_told_anew():
    describer, value = Describer(_refer, lambda _: False), [(i for i in ())]
    with pytest.raises(UntoldError):
        describer.describe("it", value)

    assert describer.describe("it", value, lambda _: None) == "list[object:code:generator]"


def test_an_opaque_object_is_not_taken_apart():
    with pytest.raises(UntoldError, match="Point"):
        _text(Point(1), is_opaque=lambda kind: kind is Point)


def test_a_handle_that_cannot_be_read_cannot_be_told(tmp_path):
    with pytest.raises(UntoldError, match="no such file"):
        _text(File(tmp_path / "absent"))
