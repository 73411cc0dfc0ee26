import pytest

from shoal.base import InputError
from shoal.cli.values import read_pairs, read_value


@pytest.mark.parametrize(
    ("text", "value"),
    [("32", 32), ("0.5", 0.5), ("true", True), ("[1,2]", [1, 2]), ("wide", "wide"), ('"32"', "32"), ("", "")],
)
def test_json_is_read_and_all_else_is_text(text, value):
    assert read_value(text) == value


def test_only_the_first_equals_sign_divides():
    assert read_pairs(["width=32", "note=a=b"]) == {"width": 32, "note": "a=b"}


def test_values_are_read_as_the_caller_wants():
    assert read_pairs(["width=32"], read=str.upper) == {"width": "32"}


@pytest.mark.parametrize("text", ["width", "=32", ""])
def test_what_is_no_pair_is_refused_with_an_example(text):
    with pytest.raises(InputError, match="NAME=VALUE") as refused:
        read_pairs([text])

    assert "width=32" in refused.value.next_step


def test_a_name_given_twice_is_refused():
    with pytest.raises(InputError, match="'width' is given twice"):
        read_pairs(["width=32", "width=64"])
