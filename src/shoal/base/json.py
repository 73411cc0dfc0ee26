"""JSON in one place, so that every file and every digest is written with the same options."""

from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any, TypeAlias, TypeVar, overload

import msgspec

from shoal.base.errors import InputError

Json: TypeAlias = Mapping[str, "Json"] | Sequence["Json"] | str | int | float | bool | None

T = TypeVar("T")


def _plain(value: object) -> object:
    if isinstance(value, PurePath):
        return str(value)
    # NumPy scalars come in metrics all the time; recognised by name, so that numpy is not imported for it.
    if type(value).__module__ == "numpy" and getattr(value, "ndim", None) == 0:
        return value.item()  # type: ignore[attr-defined]  # every numpy scalar has it
    raise TypeError(f"it holds a {type(value).__name__}")


_canonical = msgspec.json.Encoder(order="sorted", enc_hook=_plain)
_ordered = msgspec.json.Encoder(enc_hook=_plain)


def encode(value: object, *, keep_order: bool = False) -> bytes:
    """Return JSON without spaces; dataclasses, datetimes, paths and NumPy scalars are understood.

    It is canonical (keys sorted) unless `keep_order` asks for the dict's own order. NaN and infinities become null.

    Raises:
        InputError: the value holds something that JSON cannot say; the message names its type.
    """
    try:
        return (_ordered if keep_order else _canonical).encode(value)
    except (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError) as error:
        raise InputError(
            f"cannot write a {type(value).__name__} as JSON: {error}",
            next_step="use dicts, lists, text, numbers, booleans and None",
        ) from error


@overload
def decode(data: bytes | str | memoryview) -> Any: ...  # noqa: ANN401  # what it is depends on the text
@overload
def decode(data: bytes | str | memoryview, type: type[T]) -> T: ...
def decode(data: bytes | str | memoryview, type: Any = Any) -> Any:
    """Read JSON into plain values, or into a dataclass or other type with every field checked.

    Raises:
        InputError: the text is no JSON or does not fit `type`; the message names the place.
    """
    try:
        return msgspec.json.decode(data, type=type)
    # Python's own errors come through for bytes that are no text, and for brackets without end.
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"cannot read JSON: {error}", next_step="correct the text at the named place") from error


def pretty(value: object) -> str:
    """Return JSON for people: sorted keys, two spaces of indent."""
    return msgspec.json.format(encode(value), indent=2).decode()
