"""What rows must be like to come in: declared types, checks of values, and a place for the rows that are not."""

from typing import TYPE_CHECKING

from shoal.base import lazy_face

if TYPE_CHECKING:
    from shoal.data.quality.checks import Allowed as Allowed
    from shoal.data.quality.checks import Check as Check
    from shoal.data.quality.checks import Length as Length
    from shoal.data.quality.checks import Matches as Matches
    from shoal.data.quality.checks import NotNull as NotNull
    from shoal.data.quality.checks import Range as Range
    from shoal.data.quality.checks import Where as Where
    from shoal.data.quality.rules import Rules as Rules
    from shoal.data.quality.unique import Unique as Unique

__all__ = [
    "Allowed",
    "Check",
    "Length",
    "Matches",
    "NotNull",
    "Range",
    "Rules",
    "Unique",
    "Where",
]

__getattr__ = lazy_face(
    __name__,
    {
        "Allowed": "checks",
        "Check": "checks",
        "Length": "checks",
        "Matches": "checks",
        "NotNull": "checks",
        "Range": "checks",
        "Rules": "rules",
        "Unique": "unique",
        "Where": "checks",
    },
)
