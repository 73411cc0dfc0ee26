"""What a batch costs: measured when a version is loaded, kept true by every batch that is answered."""

from collections.abc import Sequence

# The weight of the newest batch in the running estimate: about the last twenty batches count.
_WEIGHT = 0.05
# One batch may be slowed by anything; more than this per batch is not believed at once.
_MOST_CHANGE = 4.0


class BatchCost:
    """Predicts seconds per batch as `overhead + per_row * rows`, times how much slower the machine is now than idle.

    Overhead and slope come from timings at load, when the replica measured sizes that traffic may never bring; live
    batches only move the factor, so a stream of equal batches cannot bend the line.
    """

    def __init__(self, timings: Sequence[tuple[int, float]] = ()) -> None:
        """Start from (rows, seconds) pairs measured on an idle replica; none if the model could not be tried."""
        self._overhead_s, self._per_row_s = _fit_line(timings)
        self._factor = 1.0

    @property
    def is_known(self) -> bool:
        """Whether anything was measured yet."""
        return self._overhead_s + self._per_row_s > 0

    def observe(self, num_rows: int, seconds: float) -> None:
        """Learn from one batch that a replica ran."""
        if not self.is_known:
            self._per_row_s = seconds / num_rows
            return
        ratio = seconds / (self._overhead_s + self._per_row_s * num_rows)
        # A replica that was stopped for seconds must not make the next batches tiny.
        ratio = min(max(ratio, self._factor / _MOST_CHANGE), self._factor * _MOST_CHANGE)
        self._factor += _WEIGHT * (ratio - self._factor)

    def predict_s(self, num_rows: int) -> float:
        """Seconds that a batch of this many rows will take; 0 before anything is known."""
        return self._factor * (self._overhead_s + self._per_row_s * num_rows)

    def rows_within(self, budget_s: float, most_rows: int) -> int:
        """The largest batch that is predicted to stay within the budget: at least one row, at most `most_rows`."""
        if not self.is_known:
            return 1
        room_s = budget_s / self._factor - self._overhead_s
        if room_s <= self._per_row_s:
            return 1
        if self._per_row_s * most_rows <= room_s:
            return most_rows
        return int(room_s / self._per_row_s)


def _fit_line(timings: Sequence[tuple[int, float]]) -> tuple[float, float]:
    """The least-squares line through the timings, with neither overhead nor slope below zero."""
    if not timings:
        return 0.0, 0.0
    count = len(timings)
    mean_rows = sum(rows for rows, _ in timings) / count
    mean_s = sum(seconds for _, seconds in timings) / count
    spread = sum((rows - mean_rows) ** 2 for rows, _ in timings)
    # One size alone cannot tell overhead from slope; all slope keeps batches small, which is the safe side.
    if spread == 0:
        return 0.0, mean_s / mean_rows
    slope = sum((rows - mean_rows) * (seconds - mean_s) for rows, seconds in timings) / spread
    slope = min(max(slope, 0.0), mean_s / mean_rows)
    return mean_s - slope * mean_rows, slope
