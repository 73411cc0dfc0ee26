"""How many rows to give a model at once: measured, because one gains nothing from what another needs."""

import time
from collections.abc import Callable, Mapping

# Beyond this a batch costs memory, and no model that was measured gained from it.
MOST_ROWS = 1024
# A size is large enough when no other is faster by more: doubling it for less only takes memory.
_SLACK = 0.03
# A slow model shows at small sizes already what it gains from larger ones.
_BUDGET_S = 1.0
_MOST_REPEATS, _ENOUGH_S = 5, 0.02
_PATIENCE = 2


def measure_batch_size(
    run: Callable[[int], object], most_rows: int, *, clock: Callable[[], float] = time.perf_counter
) -> int:
    """Return the smallest batch size at which a row costs about as little as at any other, in about a second.

    Args:
        run: handles the given number of rows, all that is done with them included.
        most_rows: not more than this many at once, >= 1.
        clock: seconds.
    """
    began = clock()
    # The first call also sets up what later ones reuse.
    run(1)
    costs: dict[int, float] = {}
    size = 1
    while size <= min(most_rows, MOST_ROWS):
        costs[size] = _seconds_of(run, size, clock) / size
        if clock() - began > _BUDGET_S or _gains_no_more(costs):
            break
        size *= 2
    return choose(costs)


def choose(costs: Mapping[int, float]) -> int:
    """The smallest batch size at which a row costs at most 3% more than at the best one.

    Args:
        costs: seconds a row by batch size; at least one.

    >>> choose({1: 9.0, 2: 5.0, 4: 4.1, 8: 4.0, 16: 4.0})
    4
    """
    least = min(costs.values())
    return min(size for size, cost in costs.items() if cost <= least * (1 + _SLACK))


def _seconds_of(run: Callable[[int], object], size: int, clock: Callable[[], float]) -> float:
    began = clock()
    taken: list[float] = []
    # The least of a few: whatever else the machine does only ever adds.
    while len(taken) < _MOST_REPEATS:
        start = clock()
        run(size)
        stop = clock()
        taken.append(stop - start)
        if stop - began > _ENOUGH_S:
            break
    return min(taken)


def _gains_no_more(costs: Mapping[int, float]) -> bool:
    sizes = sorted(costs)
    before, recent = sizes[:-_PATIENCE], sizes[-_PATIENCE:]
    return bool(before) and min(costs[size] for size in recent) > min(costs[size] for size in before) * (1 - _SLACK)
