from collections.abc import Callable

import pytest

from shoal.data.loading.prefetch import Choice, Reader, decide_idle, decide_tried


class Steps:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def following(stop: int) -> Callable[[int], int | None]:
    return lambda place: place + 1 if place + 1 < stop else None


def test_an_idle_consumer_needs_no_thread() -> None:
    decision = decide_idle(make_s=1e-3, use_s=1e-5)

    assert decision is not None
    assert not decision.threaded
    assert decision.why == "no thread: the consumer is idle (1000 us to make a batch, 10 us to use it)"
    assert decide_idle(make_s=1e-3, use_s=1e-3) is None


@pytest.mark.parametrize(("threaded_s", "is_used"), [(1.0e-3, True), (1.96e-3, False), (3e-3, False)])
def test_a_thread_is_used_only_when_it_was_faster(threaded_s: float, is_used: bool) -> None:
    decision = decide_tried(alone_s=2e-3, threaded_s=threaded_s)

    assert decision.threaded is is_used
    assert "2000 us without" in decision.why


@pytest.mark.parametrize(
    ("use_s", "threaded_use_s", "words"),
    [(0.0, 0.0, "no thread: the consumer is idle"), (1.0, 1.0, "one thread ahead"), (1.0, 2.0, "it does not help")],
)
def test_the_choice_is_found_out_over_the_first_batches(use_s: float, threaded_use_s: float, words: str) -> None:
    clock = Steps()
    choice = Choice("auto", clock)
    seen = []

    def make(place: int) -> int:
        # A thread's making overlaps with the consumer's work: the clock shows none of it.
        clock.now += 0.0 if choice.threaded else 1.0
        return place

    reader = Reader(make, following(100), choice)
    for place in range(100):
        seen.append(reader.get(place))
        clock.now += threaded_use_s if choice.threaded else use_s
    reader.close()

    assert seen == list(range(100))
    assert choice.decision is not None
    assert words in choice.decision.why


def test_the_decision_lasts_beyond_the_epoch() -> None:
    clock, made = Steps(), []
    choice = Choice("auto", clock)

    def make(place: int) -> int:
        clock.now += 1.0
        made.append(place)
        return place

    for _ in range(10):
        reader = Reader(make, following(10), choice)
        for place in range(10):
            reader.get(place)
        reader.close()

    assert choice.decision is not None
    assert made == [*range(10)] * 10


def test_what_was_made_ahead_for_another_place_is_dropped() -> None:
    reader = Reader(lambda place: place * 10, following(9), Choice(True))

    found = [reader.get(0), reader.get(1), reader.get(5), reader.get(6)]
    reader.close()

    assert found == [0, 10, 50, 60]


def test_an_error_in_the_thread_is_raised_where_the_batch_is_asked_for() -> None:
    def make(place: int) -> int:
        if place == 2:
            raise OSError("gone")
        return place

    reader = Reader(make, following(9), Choice(True))
    found = [reader.get(0), reader.get(1)]

    with pytest.raises(OSError, match="gone"):
        reader.get(2)
    reader.close()
    assert found == [0, 1]
