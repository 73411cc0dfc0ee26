"""A step's settings are checked when it is defined, not when it runs."""

import pytest

from shoal.base import ConfigError
from shoal.flow.definition import Definition


def _plain(x, *more, factor=2, **named):
    return x


async def _coroutine():
    return 1


def _generator():
    yield 1


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"function": _coroutine}, "coroutine"),
        ({"function": _generator}, "generator"),
        ({"function": _plain, "ignore": frozenset({"y"})}, r"cannot ignore \['y'\]"),
        ({"function": _plain, "cpus": 0}, "cpus=0"),
    ],
)
def test_a_wrong_setting_is_refused(settings, words):
    with pytest.raises(ConfigError, match=words):
        Definition(**settings)


def test_arguments_by_parameter_reach_the_function_as_they_were_passed():
    bound = Definition(function=_plain).bind({"x": 4, "more": (5,), "factor": 3, "named": {"other": 6}})

    assert (bound.args, bound.kwargs) == ((4, 5), {"factor": 3, "other": 6})
