"""Whole numbers from fractions, so that they add up: the method of the largest remainder."""

from collections.abc import Sequence
from fractions import Fraction

from shoal.base import InputError

_ROUNDING = Fraction(1, 10**9)


def largest_remainders(total: int, weights: Sequence[Fraction]) -> list[int]:
    """Return how many of `total` each weight gets: its share rounded down, and one more for the largest remainders.

    Of equal remainders the earlier one wins. The weights need not add up to 1, but to more than 0.
    """
    whole = sum(weights, Fraction(0))
    exact = [total * weight / whole for weight in weights]
    counts = [int(share) for share in exact]
    ahead = sorted(range(len(exact)), key=lambda index: (counts[index] - exact[index], index))
    for index in ahead[: total - sum(counts)]:
        counts[index] += 1
    return counts


def exact_fractions(fractions: Sequence[float]) -> list[Fraction]:
    """Return the fractions of a split as exact numbers that add up to at most 1.

    Raises:
        InputError: one is not above 0, or together they are above 1.
    """
    exact = [Fraction(str(fraction)) for fraction in fractions]
    # Thirds as floats do not add up to 1: the last side takes what rounding left, so that no row is lost in a gap.
    if exact and abs(sum(exact, Fraction(-1))) < _ROUNDING:
        exact[-1] = 1 - sum(exact[:-1], Fraction(0))
    if not exact or min(exact) <= 0 or sum(exact) > 1:
        raise InputError(
            f"cannot split by {tuple(fractions)}: expected numbers above 0 that add up to at most 1",
            next_step="for example split(0.8, 0.1, 0.1)",
        )
    return exact
