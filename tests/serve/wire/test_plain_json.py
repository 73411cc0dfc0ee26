import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.serve.wire.plain_json import decode_object, in_words
from shoal.serve.wire.refusal import RefusedError

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
    max_leaves=20,
)


def refused(body):
    with pytest.raises(RefusedError) as caught:
        decode_object(body, expected="an object")
    assert caught.value.status == 400
    return caught.value


@given(value=st.dictionaries(st.text(max_size=3), JSON, max_size=4), is_ascii=st.booleans())
def test_any_object_comes_through(value, is_ascii):
    body = json.dumps(value, ensure_ascii=is_ascii).encode("utf-8", "surrogatepass")

    assert decode_object(body, expected="") == value


@pytest.mark.parametrize(
    "body",
    [
        b'{"a": 1, "a": 1}',
        b'{"a": {"b": 1, "b": 2}}',
        b'{"a": [{"b": 1}, {"b": 1, "b": 2}]}',
        b'{"a": 1, "\\u0061": 2}',
        # The colon that an escape hides makes up for the one of the dropped key.
        b'{"a": 1, "a": 2, "x": "\\u003a"}',
    ],
)
def test_a_key_that_stands_twice_is_refused(body):
    assert refused(body).found == "the same key twice"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"3",
        b"null",
        b'{"a": 1,}',
        b'{"a": NaN}',
        b'{"a": 01}',
        b"{'a': 1}",
        b'{"a": "\xff"}',
        b'{"a": "\\ud800"}',
        b"\xef\xbb\xbf{}",
        b'{"a": ' + b"[" * 100_000,
        b'{"a": ' * 100_000,
        b'{"a": 1} x',
        '{"a": 1}'.encode("utf-16"),
    ],
)
def test_what_is_not_one_object_is_refused(body):
    error = refused(body)

    assert (error.field, error.expected) == ("body", "an object")


@pytest.mark.parametrize(
    ("body", "kind"), [(b"\x89PNG\r\n\x1a\nrest", "image/png"), (b"\xff\xd8\xff\xe0rest", "image/jpeg")]
)
def test_a_picture_sent_as_json_is_told_its_type(body, kind):
    error = refused(body)

    assert (error.field, error.expected, error.next_step) == ("Content-Type", kind, f"send it as {kind}")


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "null"),
        (True, "true"),
        (False, "false"),
        (0, "0"),
        (1.5, "1.5"),
        ("x" * 100, repr("x" * 60)),
        ([1] * 9, "a list of 9"),
        ({"a": 1}, "an object"),
    ],
)
def test_values_are_shown_as_json_has_them(value, words):
    assert in_words(value) == words
