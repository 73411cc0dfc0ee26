"""What a user says of a batch size that adapts."""

from dataclasses import dataclass
from typing import Literal

from shoal.base import ConfigError

Scaling = Literal["auto", "adascale", "sqrt", "none"]
SCALINGS = ("auto", "adascale", "sqrt", "none")


@dataclass(frozen=True, slots=True, kw_only=True)
class AdaptiveBatch:
    """Rows per batch, chosen anew while training: as many as bring the most progress per second.

    The optimiser's learning rate is that of `min` rows; for more it is scaled by what the larger batch is worth, which
    follows from the noise that is measured. Every change is recorded with the run, and `fit(replay=...)` repeats it.

    Attributes:
        min: rows of the smallest batch, and of the first one.
        max: rows of the largest.
        every_steps: how often the size is thought over.
        scaling: of the learning rate: "adascale" (Johnson et al. 2020) by the gain of the larger batch, "sqrt" by the
            root of that gain, as suits optimisers that divide by a gradient's size, "none"; "auto" looks at which
            optimiser it is.
    """

    min: int = 64
    max: int = 1024
    every_steps: int = 10
    scaling: Scaling = "auto"

    def __post_init__(self) -> None:
        if not 2 <= self.min <= self.max:
            raise ConfigError(
                f"AdaptiveBatch(min={self.min}, max={self.max}) must be two numbers of rows, 2 <= min <= max",
                next_step="give the smallest and the largest batch that you would use",
            )
        if self.every_steps < 1:
            raise ConfigError(f"every_steps={self.every_steps} must be >= 1", next_step="leave it out for 10")
        if self.scaling not in SCALINGS:
            raise ConfigError(
                f"scaling={self.scaling!r} must be one of {', '.join(SCALINGS)}", next_step="leave it out for auto"
            )
