"""How noisy a gradient is, from the gradients of a batch's parts and that of the whole batch.

Source: McCandlish et al. 2018, "An Empirical Model of Large-Batch Training", appendix A.1. The noise scale is the
number of rows at which a batch's gradient is as much noise as signal.
"""

import math
from dataclasses import dataclass, replace

# Each step is forgotten at this rate; of some 20 steps the mean is steady enough to act on.
_KEPT = 0.95
# A signal drowned in noise may come out at or below zero: then any size is small.
_MOST_ROWS = 1e9
# A factor of 5.9 at momentum 0.9. How many rows a small network on Fashion-MNIST needed at 64, 256 and 1,024 rows with
# the best rate for each (docs/explain/batch-size.md) asks for 4 to 6, and for 1 without momentum; 4 to 9 do as well.
_SHARE = 0.6


@dataclass(frozen=True, slots=True, kw_only=True)
class Noise:
    """Running means of the squared norm of the true gradient (`signal`) and of its variance for one row (`variance`).

    `weight` is how much of the means is measurement: they begin at zero, and are divided by it.
    """

    signal: float = 0.0
    variance: float = 0.0
    weight: float = 0.0

    def after(self, part_square: float, whole_square: float, part_rows: float, whole_rows: float) -> "Noise":
        """With one more step.

        Args:
            part_square: mean squared norm of the gradients of the batch's parts.
            whole_square: squared norm of the whole batch's gradient.
            part_rows: rows of a part, fewer than `whole_rows`.
            whole_rows: rows of the batch.
        """
        signal = (whole_rows * whole_square - part_rows * part_square) / (whole_rows - part_rows)
        variance = (part_square - whole_square) / (1 / part_rows - 1 / whole_rows)
        return replace(
            self,
            signal=_KEPT * self.signal + (1 - _KEPT) * signal,
            variance=_KEPT * self.variance + (1 - _KEPT) * variance,
            weight=_KEPT * self.weight + (1 - _KEPT),
        )

    @property
    def rows(self) -> float:
        """The noise scale in rows, > 0; infinite in effect where no signal is seen. Needs at least one step."""
        if self.signal <= 0:
            return _MOST_ROWS
        return min(_MOST_ROWS, max(self.variance / self.signal, 1e-3))


def useful_rows(noise_rows: float, momentum: float) -> float:
    """The noise scale that holds for an optimiser with momentum, which makes larger batches useful.

    Momentum m lets the average step be up to (1 + m) / (1 - m) times longer before curvature makes it diverge, while
    noise limits it as before; directions in which the loss bends little gain nothing by that (Zhang et al. 2019, "Which
    Algorithmic Choices Matter at Which Batch Sizes?"; Shallue et al. 2019). So it lies between nothing and all of that.
    Where, is measured: see `_SHARE`.
    """
    return noise_rows * math.pow((1 + momentum) / (1 - momentum), _SHARE)


def efficiency(noise_rows: float, rows: float, least: float) -> float:
    """How much a row in a batch of `rows` brings beside one in a batch of `least`: 1 at `least`, then falling."""
    return (noise_rows + least) / (noise_rows + rows)


def gain(noise_rows: float, rows: float, least: float) -> float:
    """How many steps at `least` rows one step at `rows` is worth: from 1 to rows / least."""
    return rows / least * efficiency(noise_rows, rows, least)
