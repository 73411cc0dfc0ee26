"""Which batch size is worth the most: a pure choice from the noise of the gradient and the time that steps take.

Progress per second is rows per second times what a row is worth in a batch of that size (goodput, Qiao et al. 2021,
"Pollux"); sizes are tried on a ladder of factors of about 1.4 from the smallest to the largest.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from shoal.train.batch_size.noise import efficiency, gain
from shoal.train.batch_size.settings import AdaptiveBatch, Scaling
from shoal.train.batch_size.speed import StepTime, fit_step_time

# So many times larger or smaller at once: a wrong estimate is found out before it costs much.
_MOST_CHANGE = 4.0
# Less than this much better is no reason to change.
_WORTHWHILE = 1.03


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A batch size with the factor of the learning rate that belongs to it, and what spoke for it."""

    rows: int
    lr_factor: float
    noise_rows: float
    rows_per_s: float
    worth: float


def ladder(settings: AdaptiveBatch, divisor: int) -> list[int]:
    """The sizes to choose from: `min`, `max` and what lies between, all but the ends multiples of `divisor`."""
    steps = math.floor(2 * math.log2(settings.max / settings.min) + 1e-9)
    between = (settings.min * 2 ** (step / 2) for step in range(1, steps + 1))
    sizes = {round(size / divisor) * divisor for size in between}
    return sorted({settings.min, settings.max} | {size for size in sizes if settings.min < size < settings.max})


def choose(
    settings: AdaptiveBatch,
    sizes: list[int],
    current: int,
    noise_rows: float,
    timed: Mapping[int, float],
    scaling: Scaling,
    *,
    fixed_s: float = 0.0,
) -> Choice:
    """Return the size for the next steps.

    Args:
        settings: what the user allows.
        sizes: the ladder.
        current: the present size, one of them.
        noise_rows: the noise scale.
        timed: seconds of a step by its rows, as far as they were measured; the present size among them.
        scaling: of the learning rate.
        fixed_s: seconds of the present size's steps that went into what no row adds to, as far as is known.
    """
    near = [size for size in sizes if current / _MOST_CHANGE <= size <= current * _MOST_CHANGE]
    model = fit_step_time(timed) or StepTime.guess(current, timed[current], fixed_s)

    def goodput(size: int) -> float:
        return size / model.seconds(size) * efficiency(noise_rows, size, settings.min)

    best = max(near, key=goodput)
    rows = best if goodput(best) > _WORTHWHILE * goodput(current) else current
    if len(timed) == 1 and rows == current:
        # A guess is no reason to stay for ever: the next steps are a measurement, of a size not far away.
        others = (size for size in near if size != current)
        rows = min(others, key=lambda size: abs(size - 2 * current), default=current)
    return _choice(settings, scaling, rows, noise_rows, rows / model.seconds(rows))


def lr_factor(scaling: Scaling, noise_rows: float, rows: int, least: int) -> float:
    """By how much the learning rate of `least` rows is multiplied for `rows`."""
    if scaling == "none":
        return 1.0
    worth = gain(noise_rows, rows, least)
    return math.sqrt(worth) if scaling == "sqrt" else worth


def _choice(settings: AdaptiveBatch, scaling: Scaling, rows: int, noise_rows: float, rows_per_s: float) -> Choice:
    return Choice(
        rows=rows,
        lr_factor=lr_factor(scaling, noise_rows, rows, settings.min),
        noise_rows=noise_rows,
        rows_per_s=rows_per_s,
        worth=efficiency(noise_rows, rows, settings.min),
    )
