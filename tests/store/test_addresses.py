import pytest

from shoal.base import InputError
from shoal.store.addresses import ModelAddress, check_alias, parse_address


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("fashion", ModelAddress("fashion")),
        ("fashion@3", ModelAddress("fashion", version=3)),
        ("fashion@production", ModelAddress("fashion", alias="production")),
        ("fashion-mnist.v2_x@A-b.c", ModelAddress("fashion-mnist.v2_x", alias="A-b.c")),
    ],
)
def test_address_has_a_name_and_a_version_or_an_alias(text, expected):
    assert parse_address(text) == expected


@pytest.mark.parametrize(
    "text", ["", "@3", "fashion@", "fashion@3x", "fashion@-1", "fashion@a@b", "a/b@1", "a@²", "..@1"]
)
def test_other_text_is_refused_with_its_words(text):
    with pytest.raises(InputError, match="fashion"):
        parse_address(text)


def test_alias_is_never_a_number():
    with pytest.raises(InputError, match="'3'"):
        check_alias("3")
