"""The k-th smallest value of a column, exactly, in four passes over it and a few hundred KiB of memory."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Keys = NDArray[np.uint64]

_SIGN = np.uint64(1 << 63)
_DIGIT_BITS = 16
_NUM_DIGITS = 1 << _DIGIT_BITS


def values_at(pieces: Callable[[], Iterator[NDArray[Any]]], places: Sequence[int]) -> list[Any]:
    """Return the values at some places of the sorted column, as Python numbers or `datetime64`.

    Args:
        pieces: starts a pass over the column: numbers or instants, all of one type, without missing values.
        places: counted from 0, below the number of values.
    """
    kinds: list[np.dtype[Any]] = []

    def keys() -> Iterator[Keys]:
        for piece in pieces():
            kinds.append(piece.dtype)
            yield _as_keys(piece)

    found = _keys_at(keys, places)
    return [_from_key(key, kinds[0]) for key in found]


def _keys_at(keys: Callable[[], Iterator[Keys]], places: Sequence[int]) -> list[int]:
    """Find the keys digit by digit, the highest 16 bits first: count the digits of all keys that begin so far alike."""
    prefixes, left = [0] * len(places), list(places)
    for shift in range(64 - _DIGIT_BITS, -1, -_DIGIT_BITS):
        counts = np.zeros((len(places), _NUM_DIGITS), np.int64)
        for piece in keys():
            digits = piece >> np.uint64(shift)
            for index, prefix in enumerate(prefixes):
                alike = digits[(digits >> np.uint64(_DIGIT_BITS)) == prefix]
                last = (alike & np.uint64(_NUM_DIGITS - 1)).astype(np.int64)
                counts[index] += np.bincount(last, minlength=_NUM_DIGITS)
        for index, sums in enumerate(counts.cumsum(axis=1)):
            digit = int(np.searchsorted(sums, left[index], side="right"))
            left[index] -= int(sums[digit] - counts[index, digit])
            prefixes[index] = (prefixes[index] << _DIGIT_BITS) | digit
    return prefixes


def _as_keys(values: NDArray[Any]) -> Keys:
    """Return uint64 that are in the order of the values."""
    if values.dtype.kind == "u":
        return values.astype(np.uint64)
    if values.dtype.kind != "f":
        return values.astype(np.int64).view(np.uint64) ^ _SIGN
    bits = values.astype(np.float64).view(np.uint64)
    # Negative floats grow downwards: all their bits are turned round.
    return np.where(bits & _SIGN, ~bits, bits | _SIGN)


def _from_key(key: int, dtype: np.dtype[Any]) -> Any:  # noqa: ANN401 - as many types as columns have
    if dtype.kind == "u":
        return key
    number = np.array([key], np.uint64)
    if dtype.kind == "f":
        return (number ^ _SIGN if key >> 63 else ~number).view(np.float64)[0].item()
    whole = (number ^ _SIGN).view(np.int64)
    return whole.view(dtype)[0] if dtype.kind == "M" else whole[0].item()
