"""What workers tell their supervisor, as plain values that cross between processes."""

from dataclasses import asdict, dataclass
from typing import Any, TypeAlias


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """The worker has its model, its data and its group, and begins with its first step."""

    step: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps:
    """Steps done since the last of these reports: their losses, rows, and seconds, `wait_s` of them spent on data."""

    epoch: int
    first_step: int
    losses: list[float]
    rows: int
    seconds: float
    wait_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochDone:
    """The mean loss over an epoch's rows."""

    epoch: int
    step: int
    loss: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Validated:
    """One worker's share of a validation: per measure, (total, weight) of each of its batches."""

    epoch: int
    step: int
    parts: dict[str, list[tuple[float, float]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Saved:
    """A checkpoint was written."""

    step: int
    path: str
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Warned:
    """Something went wrong that does not stop the training."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Diverged:
    """The loss of this step, counted from 1, is no finite number; the weights are those before it."""

    epoch: int
    step: int
    loss: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """This worker has done all that it had to do, and told of it."""

    step: int


WorkerReport: TypeAlias = Ready | Steps | EpochDone | Validated | Saved | Warned | Diverged | Finished

_KINDS: dict[str, type[Any]] = {
    kind.__name__: kind for kind in (Ready, Steps, EpochDone, Validated, Saved, Warned, Diverged, Finished)
}


def to_message(report: WorkerReport) -> dict[str, Any]:
    """A report as a message of the runtime."""
    return {"kind": type(report).__name__, **asdict(report)}


def from_message(message: dict[str, Any]) -> WorkerReport:
    """The report that `to_message` was given."""
    fields = dict(message)
    report: WorkerReport = _KINDS[fields.pop("kind")](**fields)
    return report
