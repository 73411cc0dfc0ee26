"""Which variant of a package is kept: a pure function of what was measured."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One variant beside the original: shares of 1, and milliseconds of both from the same interleaved measurement."""

    name: str
    accuracy_before: float
    accuracy: float
    before_ms: float
    after_ms: float

    @property
    def loss(self) -> float:
        """Accuracy that the variant gives up; negative where it gains."""
        return self.accuracy_before - self.accuracy

    @property
    def speedup(self) -> float:
        """How many times faster the variant is."""
        return self.before_ms / self.after_ms


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The variant worth reporting (the best one, also where it is not kept), whether it is kept, and why."""

    best: Measured
    kept: bool
    reason: str


def decide(variants: Sequence[Measured], *, max_loss: float, min_speedup: float) -> Decision:
    """Choose the fastest variant that is accurate enough; it is kept if it is faster than `min_speedup` times.

    Args:
        variants: at least one.
        max_loss: the largest accepted loss of accuracy, as a share of 1.
        min_speedup: at 1.0 any gain counts; the gain must be above it, not equal.
    """
    # Accuracies are counts divided by rows: two equal losses may differ in the last bit.
    accurate = [variant for variant in variants if variant.loss <= max_loss + 1e-9]
    if not accurate:
        best = min(variants, key=lambda variant: variant.loss)
        found = f"it loses {100 * best.loss:.2f} points of accuracy, at most {100 * max_loss:.2f} are accepted"
        return Decision(best=best, kept=False, reason=f"float stays: {best.name} int8 is not accurate enough: {found}")
    best = max(accurate, key=lambda variant: variant.speedup)
    figures = f"{best.before_ms:.3f} ms against {best.after_ms:.3f} ms at batch 1 ({best.speedup:.2f} times)"
    if best.speedup <= min_speedup:
        found = f"int8 does not pay on this machine: {figures}, more than {min_speedup:.2f} times is asked for"
        return Decision(best=best, kept=False, reason=f"float stays: {found}")
    gained = f"accuracy {-100 * best.loss:+.2f} points"
    return Decision(best=best, kept=True, reason=f"{best.name} int8 is kept: {figures}, {gained}")
