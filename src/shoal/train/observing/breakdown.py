"""Where the time of a run's steps went, from the curves that it recorded."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

# Curve that holds a share of the time, -> what people call it.
_SHARES = {"train.data_wait": "data wait", "train.comm_share": "exchange", "train.update_share": "update"}
STEP_SECONDS = "train.step_s"


class Point(Protocol):
    """A point of a recorded curve."""

    @property
    def step(self) -> int:
        """After which step."""

    @property
    def value(self) -> float:
        """Its value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One part of the mean step: seconds, and their share of all, 0 to 1."""

    name: str
    seconds: float
    share: float


def breakdown(curves: Mapping[str, Sequence[Point]], checkpoints_s: Sequence[float] = ()) -> list[Part]:
    """Return what the mean step's time went into; nothing for a run that recorded no times.

    "compute" is what is left of a step: the model forward and back. Waiting for slower workers counts as exchange.
    A point of these curves stands for all steps since the point before.

    Args:
        curves: by name, as `store.metrics.curve` gives them.
        checkpoints_s: how long each checkpoint held up the steps.
    """
    points = list(curves.get(STEP_SECONDS, ()))
    before = [0, *(point.step for point in points)]
    num_steps = {point.step: point.step - first for point, first in zip(points, before, strict=False)}
    total = sum(point.value * num_steps[point.step] for point in points)
    if not total:
        return []
    shares = {name: {point.step: point.value for point in curves.get(curve, ())} for curve, name in _SHARES.items()}
    spent = {
        name: sum(point.value * num_steps[point.step] * share.get(point.step, 0.0) for point in points)
        for name, share in shares.items()
    }
    compute = max(0.0, total - sum(spent.values()))
    seconds = {
        "data wait": spent["data wait"],
        "compute": compute,
        "exchange": spent["exchange"],
        "update": spent["update"],
        "checkpoint": sum(checkpoints_s),
    }
    whole, steps = sum(seconds.values()), sum(num_steps.values())
    return [Part(name=name, seconds=part / steps, share=part / whole) for name, part in seconds.items()]
