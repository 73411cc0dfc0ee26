"""A JSON object as Python values, with nothing lost: a key that stands twice is refused, not silently the last one."""

import json
from typing import Any

import msgspec

from shoal.serve.wire.refusal import shorten, wrong_field

# How files begin that people send with curl and no content type.
SIGNATURES = {b"\x89PNG\r\n\x1a\n": "image/png", b"\xff\xd8\xff": "image/jpeg"}


def decode_object(body: bytes, *, expected: str) -> dict[str, Any]:
    """Read a body that is one JSON object.

    Args:
        body: all of it.
        expected: what it should be, in words.

    Raises:
        RefusedError: 400, it is not JSON, not an object, or names a key twice.
    """
    if not body:
        raise wrong_field("body", found="no bytes", expected=expected)
    try:
        found = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        for signature, kind in SIGNATURES.items():
            if body.startswith(signature):
                raise wrong_field(
                    "Content-Type", found="a picture sent as JSON", expected=kind, next_step=f"send it as {kind}"
                ) from error
        raise wrong_field("body", found=f"what is not JSON ({error})", expected=expected) from error
    if type(found) is not dict:
        raise wrong_field("body", found=in_words(found), expected=expected)
    try:
        # Every key is followed by one colon, and other colons stand inside texts: where the count is right, no key was
        # dropped. Where it is not, or escapes may hide colons, the slow way finds out.
        if b"\\" in body or body.count(b":") != _count_colons(found):
            _check_keys(body)
    except RecursionError as error:
        raise wrong_field("body", found="JSON nested hundreds deep", expected=expected) from error
    return found


def in_words(value: Any) -> str:  # noqa: ANN401  # any JSON
    """A JSON value as an error shows it, short however large it is."""
    if isinstance(value, list):
        return f"a list of {len(value)}"
    if isinstance(value, dict):
        return "an object"
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    return repr(value[:60]) if isinstance(value, str) else repr(value)


def _count_colons(value: Any) -> int:  # noqa: ANN401  # any JSON
    kind = type(value)
    if kind is dict:
        return sum(1 + key.count(":") + _count_colons(inner) for key, inner in value.items())
    if kind is list:
        # Numbers hold no colons: most lists are done after one look.
        kinds = set(map(type, value))
        if kinds.isdisjoint((dict, list, str)):
            return 0
        return sum(map(_count_colons, value))
    return value.count(":") if kind is str else 0


def _check_keys(body: bytes) -> None:
    def check(pairs: list[tuple[str, Any]]) -> None:
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise wrong_field(shorten(key) or repr(key), found="the same key twice", expected="each key once")
            seen.add(key)

    # Numbers are not made: some that the other decoder takes are too long for this one.
    json.loads(body, object_pairs_hook=check, parse_int=str, parse_float=str)
