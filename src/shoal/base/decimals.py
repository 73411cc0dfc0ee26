"""The table by which the compiled readers turn decimal numbers into the nearest binary ones."""

from functools import cache

import numpy as np
from numpy.typing import NDArray

# As in _decimals.h.
_MAX_POWER = 64


@cache
def powers_of_ten() -> NDArray[np.uint64]:
    """Return uint64 [129, 2]: the first 128 bits of each power of ten from 10**-64 to 10**64, high half first.

    Without the powers of two in it: cut off above one, and rounded up below as long as so many bits hold the power
    itself (Lemire 2021, "Number parsing at a gigabyte per second", section 5).
    """
    found = []
    for power in range(-_MAX_POWER, _MAX_POWER + 1):
        five = 5 ** abs(power)
        if power < 0:
            bits = (five - 1).bit_length()
            # Up to 10**-27 the quotient has 128 bits by itself; the smaller ones are cut to as many.
            five = (1 << (bits + 127 if power >= -27 else 2 * bits + 128)) // five + 1
        excess = five.bit_length() - 128
        five = five >> excess if excess > 0 else five << -excess
        found.append((five >> 64, five & (2**64 - 1)))
    return np.array(found, np.uint64)
