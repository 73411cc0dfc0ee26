import threading
from collections.abc import Generator

import pytest

from shoal.data.sources.ahead import ahead


def test_gives_all_items_in_order() -> None:
    assert list(ahead(index for index in range(100))) == list(range(100))


def test_makes_the_next_item_while_this_one_is_used() -> None:
    made = threading.Event()

    def items() -> Generator[int]:
        yield 1
        made.set()
        yield 2

    for item in ahead(items()):
        if item == 1:
            assert made.wait(10)


def test_an_error_comes_in_its_place() -> None:
    def items() -> Generator[int]:
        yield 1
        raise KeyError("late")

    coming = ahead(items())

    assert next(coming) == 1
    with pytest.raises(KeyError, match="late"):
        next(coming)


def test_stopping_early_closes_the_source() -> None:
    closed = []

    def items() -> Generator[int]:
        try:
            yield from range(10)
        finally:
            closed.append(True)

    coming = ahead(items())
    next(coming)
    coming.close()

    assert closed == [True]
