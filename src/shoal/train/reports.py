"""What workers tell their supervisor, as plain values that cross between processes."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, TypeAlias


@dataclass(frozen=True, slots=True, kw_only=True)
class Warm:
    """The worker has its model and its data, and waits to be called to a generation."""

    warm_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """The worker has met the others of its generation, holds the same state, and begins with the next step.

    `pause_s` is the time since it left the generation before, None for a newcomer; `copied` says that its state came
    from another member.
    """

    generation: int
    step: int
    pause_s: float | None = None
    copied: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Beat:
    """The worker lives: it does `phase` in this step since `for_s` seconds."""

    step: int
    phase: str
    for_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Apart:
    """The worker has lost the others of its generation, before anybody has told it why."""

    generation: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps:
    """Steps done since the last of these reports: their losses and rows, and what the seconds went into.

    Attributes:
        seconds: of all, with `wait_s` spent on data, `exchange_s` on the other workers, `update_s` on the optimisers.
        workers: in this generation.
        batch_size: rows of a full batch.
        row: rows of the epoch that are done after the last of them; 0 where that is not known.
    """

    epoch: int
    first_step: int
    losses: list[float]
    rows: int
    seconds: float
    wait_s: float
    exchange_s: float = 0.0
    update_s: float = 0.0
    workers: int = 1
    batch_size: int = 0
    row: int = 0

    @property
    def last_step(self) -> int:
        """The newest of them."""
        return self.first_step + len(self.losses) - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochDone:
    """The mean loss over an epoch's rows."""

    epoch: int
    step: int
    loss: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Validating:
    """The model is being measured after this step."""

    step: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Validated:
    """The values of curves, such as "validation.loss", over all workers."""

    epoch: int
    step: int
    values: dict[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Saved:
    """A checkpoint was written; it took the step loop `blocked_s`, and `seconds` until it was durable."""

    step: int
    path: str
    digest: str
    blocked_s: float = 0.0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Resized:
    """From the step after this one on, a full batch has another size."""

    step: int
    size: int
    lr_factor: float
    facts: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Warned:
    """Something went wrong that does not stop the training."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Cautioned:
    """A Python warning came up in this worker, most likely in the task's own code."""

    worker: int
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Diverged:
    """The loss of this step, counted from 1, is no finite number; the weights are those before it.

    `why` names the dataset's rows at fault, `rows` are their numbers.
    """

    epoch: int
    step: int
    loss: float
    rows: list[int] = field(default_factory=list)
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unsaved:
    """The run's last checkpoint could not be written: the words of the error, and the name of its class."""

    error: str
    text: str
    next_step: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """This worker has done all that it had to do, and told of it; `why` if that was before the last epoch."""

    step: int
    why: str = ""


WorkerReport: TypeAlias = (
    Warm
    | Ready
    | Beat
    | Apart
    | Steps
    | EpochDone
    | Validating
    | Validated
    | Saved
    | Resized
    | Warned
    | Cautioned
    | Diverged
    | Unsaved
    | Finished
)

_KINDS: dict[str, type[Any]] = {
    kind.__name__: kind
    for kind in (
        Warm,
        Ready,
        Beat,
        Apart,
        Steps,
        EpochDone,
        Validating,
        Validated,
        Saved,
        Resized,
        Warned,
        Cautioned,
        Diverged,
        Unsaved,
        Finished,
    )
}


def to_message(report: WorkerReport) -> dict[str, Any]:
    """A report as a message of the runtime."""
    return {"kind": type(report).__name__, **asdict(report)}


def from_message(message: Mapping[str, Any]) -> WorkerReport:
    """The report that `to_message` was given."""
    fields = dict(message)
    report: WorkerReport = _KINDS[fields.pop("kind")](**fields)
    return report
