"""Kinds of options that several commands take: a range of numbers, a time, a number of steps or a time."""

import re

import click

_UNITS = {"s": 1, "min": 60, "h": 3600, "d": 24 * 3600}
_DURATION = re.compile(rf"(\d+(?:\.\d+)?)({'|'.join(_UNITS)})")


class NumberOrRange(click.ParamType[int | tuple[int, int]]):
    """A number or two: "4" is 4, and "1-4" is (1, 4)."""

    name = "N or LEAST-MOST"

    def __init__(self, *, range_only: bool = False) -> None:
        self._range_only = range_only
        if range_only:
            self.name = "LEAST-MOST"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int | tuple[int, int]:
        """Numbers of at least 1, the first not above the second."""
        if isinstance(value, int):
            return value
        least, dash, most = str(value).partition("-")
        if not least.isdecimal() or (dash and not most.isdecimal()) or (self._range_only and not dash):
            self.fail(
                f"{value!r} is not {'a range' if self._range_only else 'a number or a range'} such as 1-4", param, ctx
            )
        numbers = int(least), int(most or least)
        if not 1 <= numbers[0] <= numbers[1]:
            self.fail(f"{value!r} must count from at least 1 upwards, as in 1-4", param, ctx)
        return numbers if dash else numbers[0]


class Duration(click.ParamType[float]):
    """A time such as "90s", "15min", "6h" or "7d": seconds, a float."""

    name = "TIME"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """A number and its unit: without one, nobody knows whether 30 is seconds or minutes."""
        found = _DURATION.fullmatch(str(value))
        if found is None:
            self.fail(f"{value!r} is not a time such as 90s, 15min, 6h or 7d", param, ctx)
        return float(found[1]) * _UNITS[found[2]]


class StepsOrDuration(click.ParamType[int | float]):
    """How often: "500" is 500 steps, an int; "10min" is 600.0 seconds, a float."""

    name = "STEPS or TIME"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int | float:
        """A plain number of at least 1, or a time."""
        text = str(value)
        if not text.isdecimal():
            return Duration().convert(text, param, ctx)
        if not int(text):
            self.fail("0 must be at least 1; leave the option out for never", param, ctx)
        return int(text)
