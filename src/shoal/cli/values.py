"""Values as they are typed in a shell: JSON where it is JSON, text where it is not."""

from collections.abc import Callable, Iterable
from typing import Any

from shoal.base import InputError, json


def read_value(text: str) -> Any:  # noqa: ANN401 - whatever was typed
    """Return what `text` says as JSON, else the text itself: 32 is a number, wide and "32" are text."""
    try:
        return json.decode(text)
    except InputError:
        return text


def read_pairs(texts: Iterable[str], *, read: Callable[[str], Any] = read_value) -> dict[str, Any]:
    """Read NAME=VALUE once for each text.

    Args:
        texts: as typed; only the first equals sign divides.
        read: makes the value of what stands behind it.

    Raises:
        InputError: one has no name or no equals sign, or a name comes twice: one of its values would be ignored.
    """
    found: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not (name and equals):
            raise InputError(f"cannot read {text!r}: expected NAME=VALUE", next_step="write it as in --set width=32")
        if name in found:
            raise InputError(
                f"{name!r} is given twice: {found[name]!r} and {value!r}", next_step="leave one of them out"
            )
        found[name] = read(value)
    return found
