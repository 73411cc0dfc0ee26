"""Random numbers by counter: the number at any place follows from a key and the place, so nothing needs a state."""

import hashlib

import numpy as np
from numpy.typing import NDArray

Draws = NDArray[np.uint64]

# SplitMix64 (Steele, Lea and Flood 2014): the step between counters and the two multipliers of its finaliser.
_STEP = np.uint64(0x9E3779B97F4A7C15)
_FIRST, _SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_UNIT = 2.0**-53


def key_of(*parts: object) -> int:
    """Return the 64-bit key of a stream of draws; other parts give a stream that has nothing to do with this one."""
    text = "/".join(str(part) for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def draws_at(key: int, counters: NDArray[np.int64] | Draws) -> Draws:
    """Return uint64, one draw per counter, evenly spread over 0..2**64-1."""
    return mixed(np.uint64(key) + counters.astype(np.uint64) * _STEP)


def draws_of_hashes(key: int, hashes: Draws, ordinals: NDArray[np.int64]) -> Draws:
    """Return uint64, one draw per row: its hash and its number among the rows of that hash decide, nothing else."""
    return mixed(mixed(hashes ^ np.uint64(key)) + ordinals.astype(np.uint64) * _STEP)


def mixed(values: Draws) -> Draws:
    """Return a bijection of uint64 in which every bit depends on all bits of the value."""
    values = (values ^ (values >> np.uint64(30))) * _FIRST
    values = (values ^ (values >> np.uint64(27))) * _SECOND
    return values ^ (values >> np.uint64(31))


def as_fractions(draws: Draws) -> NDArray[np.float64]:
    """Return float64 from 0 up to but without 1; the same bits on every machine."""
    return (draws >> np.uint64(11)).astype(np.float64) * _UNIT
