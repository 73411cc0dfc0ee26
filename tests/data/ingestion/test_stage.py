import threading

import pytest

from shoal.data.ingestion.stage import Stage


def test_works_on_items_in_order_in_another_thread() -> None:
    seen: list[tuple[int, bool]] = []
    here = threading.get_ident()

    with Stage[int](lambda item: seen.append((item, threading.get_ident() != here))) as stage:
        for item in range(20):
            stage.put(item)
        stage.finish()

    assert seen == [(item, True) for item in range(20)]


def test_the_first_error_reaches_whoever_puts_or_finishes() -> None:
    def fail(item: int) -> None:
        raise ValueError(f"no {item}")

    with Stage[int](fail) as stage:
        stage.put(1)
        with pytest.raises(ValueError, match="no 1"):
            stage.finish()
        with pytest.raises(ValueError, match="no 1"):
            stage.put(2)


def test_leaving_with_an_error_drops_what_waits() -> None:
    begun, go_on = threading.Event(), threading.Event()
    seen: list[int] = []

    def work(item: int) -> None:
        begun.set()
        go_on.wait()
        seen.append(item)

    def fail() -> None:
        with Stage[int](work, depth=5) as stage:
            for item in range(4):
                stage.put(item)
            begun.wait()
            threading.Timer(0, go_on.set).start()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()

    assert seen[:1] == [0]
    assert len(seen) <= 4
