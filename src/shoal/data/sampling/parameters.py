"""What each kind of recipe takes, so that an address that somebody wrote or cut is refused before a row is read."""

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec

from shoal.base import InputError

_Border = Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{1,17}\Z")]
_HASH_SPAN = 2**64


class _Range(msgspec.Struct, forbid_unknown_fields=True):
    low: _Border
    high: _Border


class _Group(_Range):
    by: str
    seed: int


class _Filter(msgspec.Struct, forbid_unknown_fields=True):
    # Held to the columns by `checked_predicate` once these are known.
    where: list[Any]


class _Sample(msgspec.Struct, forbid_unknown_fields=True):
    seed: int
    fraction: Annotated[float, msgspec.Meta(gt=0, le=1)] | None = None
    rows: Annotated[int, msgspec.Meta(ge=1)] | None = None
    by: str | None = None


_KINDS: dict[str, type[msgspec.Struct]] = {"range": _Range, "group": _Group, "filter": _Filter, "sample": _Sample}


def check_parameters(kind: str, parameters: Mapping[str, object]) -> None:
    """Return when there is such a kind of recipe and these are its parameters.

    Raises:
        InputError: there is none, or one is missing, unknown, of another type or out of range.
    """
    if kind not in _KINDS:
        raise InputError(
            f"cannot make a subset: there is no {kind!r}, expected {', '.join(_KINDS)}",
            next_step="copy the address of the subset as it was printed, or use a newer shoal",
        )
    try:
        found = msgspec.convert(dict(parameters), _KINDS[kind])
    except msgspec.ValidationError as error:
        raise _wrong(kind, str(error)) from error
    if isinstance(found, _Range) and not int(found.low, 16) <= int(found.high, 16) <= _HASH_SPAN:
        raise _wrong(kind, f"{found.low}-{found.high} is no range of hashes")
    if isinstance(found, _Sample) and (found.fraction is None) == (found.rows is None):
        raise _wrong(kind, "expected either `fraction` or `rows`")


def _wrong(kind: str, problem: str) -> InputError:
    return InputError(
        f"cannot make the subset {kind}(...): {problem}",
        next_step="copy the address of the subset as it was printed",
    )
