"""How many rows of a batch a model is given at once: what it computes on should fit into the processor's caches."""

import itertools
from collections.abc import Sequence

# Below, a call's own cost shows in every row; and there may be no gain in being so exact.
_LEAST_ROWS = 4
# A gain that timings tell from noise.
_LEAST_GAIN = 0.03
_SAME = 0.02


def choose_portion(timings: Sequence[tuple[int, float]]) -> int | None:
    """The rows to compute at once, where larger batches take longer for each row; None where they do not.

    Args:
        timings: (rows, seconds) of batches that the model was tried with.
    """
    costs = {rows: seconds / rows for rows, seconds in timings}
    sizes = sorted(rows for rows in costs if rows >= _LEAST_ROWS)
    if not sizes:
        return None
    least = min(costs[rows] for rows in sizes)
    chosen = next(rows for rows in sizes if costs[rows] <= least * (1 + _SAME))
    return chosen if costs[sizes[-1]] > costs[chosen] * (1 + _LEAST_GAIN) else None


def cut(num_rows: int, portion: int) -> list[slice]:
    """The portions of a batch, of nearly the same size: a last one of a single row would cost as much as several."""
    count = -(-num_rows // portion)
    ends = [num_rows * number // count for number in range(count + 1)]
    return [slice(start, stop) for start, stop in itertools.pairwise(ends)]
