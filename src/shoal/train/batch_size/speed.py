"""How long a step of any size takes on this machine: a fixed part and one per row, from steps that were timed."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StepTime:
    """Seconds of a step: `fixed_s` whatever its size, and `row_s` for each row."""

    fixed_s: float
    row_s: float

    @classmethod
    def guess(cls, rows: int, seconds: float, fixed_s: float) -> "StepTime":
        """From one size alone: what is known to be fixed, and all the rest for the rows."""
        fixed_s = min(fixed_s, seconds)
        return cls(fixed_s, (seconds - fixed_s) / rows)

    def seconds(self, rows: float) -> float:
        """Of a step of so many rows."""
        return self.fixed_s + self.row_s * rows


def fit_step_time(timed: Mapping[int, float]) -> StepTime | None:
    """Return the line through the timed sizes (rows: seconds) with the least relative error; None for fewer than two.

    Neither part is ever negative: a machine's hiccup must not make large batches look free.
    """
    if len(timed) < 2:
        return None
    # Relative errors: weights 1 / seconds^2, so that a long step does not decide alone.
    weights = {rows: 1 / max(seconds, 1e-9) ** 2 for rows, seconds in timed.items()}
    total = sum(weights.values())
    mean_rows = sum(weights[rows] * rows for rows in timed) / total
    mean_s = sum(weights[rows] * timed[rows] for rows in timed) / total
    spread = sum(weights[rows] * (rows - mean_rows) ** 2 for rows in timed)
    row_s = sum(weights[rows] * (rows - mean_rows) * (timed[rows] - mean_s) for rows in timed) / spread
    fixed_s = mean_s - row_s * mean_rows
    if row_s <= 0:
        return StepTime(mean_s, 0.0)
    if fixed_s <= 0:
        moment = sum(weights[rows] * rows * rows for rows in timed)
        return StepTime(0.0, sum(weights[rows] * rows * timed[rows] for rows in timed) / moment)
    return StepTime(fixed_s, row_s)
