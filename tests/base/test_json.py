from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shoal.base import InputError, decode, encode, pretty

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@dataclass(frozen=True)
class Point:
    x: int
    y: float = 0.0


@settings(max_examples=50)
@given(JSON)
def test_what_is_written_reads_back(value: object):
    assert decode(encode(value)) == value


def test_keys_are_sorted_unless_asked():
    assert encode({"b": 1, "a": 2}) == b'{"a":2,"b":1}'
    assert encode({"b": 1, "a": 2}, keep_order=True) == b'{"b":1,"a":2}'


def test_understands_what_configurations_hold():
    value = {"p": Point(1), "at": datetime(2026, 1, 1, tzinfo=UTC), "path": Path("a/b"), "n": np.float32(0.5)}

    assert decode(encode(value)) == {"p": {"x": 1, "y": 0.0}, "at": "2026-01-01T00:00:00Z", "path": "a/b", "n": 0.5}


def test_reads_into_a_dataclass():
    assert decode(b'{"x": 3}', Point) == Point(3)


@pytest.mark.parametrize(
    "bad", [b'{"x": "3"}', b"{}", b'{"x": 1', b"", b"\xff", b'{"x": "\xff"}', b'{"y":' + b"[" * 100_000]
)
def test_bad_json_is_an_input_error(bad: bytes):
    with pytest.raises(InputError, match="cannot read JSON"):
        decode(bad, Point)


def test_error_names_the_place():
    with pytest.raises(InputError, match=r"\$\.x"):
        decode(b'{"x": "3"}', Point)


@pytest.mark.parametrize("bad", [object(), {"deep": [object()]}, np.zeros(2)])
def test_what_json_cannot_say_is_an_input_error(bad: object):
    with pytest.raises(InputError, match="as JSON"):
        encode(bad)


def test_circle_is_an_input_error():
    circle: list[object] = []
    circle.append(circle)

    with pytest.raises(InputError, match="recursion"):
        encode(circle)


def test_pretty_is_for_people():
    assert pretty({"b": 1, "a": [2]}) == '{\n  "a": [\n    2\n  ],\n  "b": 1\n}'
