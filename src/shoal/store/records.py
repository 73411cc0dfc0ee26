"""What the store hands out: plain frozen values, cheap to make and safe to share between threads."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal, NamedTuple

from shoal.base import InputError, Json, Ref, register_handle
from shoal.store.gate_report import GateResult

RunStatus = Literal["running", "done", "failed", "cancelled"]
RunEnd = Literal["done", "failed", "cancelled"]
ArtifactKind = Literal["bytes", "file", "folder"]
MoveReason = Literal["promote", "rollback", "forward"]
ChangeKind = Literal[
    "run.started",
    "run.resumed",
    "run.finished",
    "model.registered",
    "alias.moved",
    "canary.set",
    "canary.ended",
    "alert.opened",
    "alert.closed",
    "labels.put",
]

_STEP_LIMIT = 2**63


class MetricPoint(NamedTuple):
    """One value of one curve; a tuple rather than a dataclass, because curves are long.

    Attributes:
        name: the curve, such as "train.loss".
        value: any float; NaN and infinities are kept as they are.
        step: the position on the curve; a second point at the same step replaces the first.
        time: when it was measured, UTC.
    """

    name: str
    value: float
    step: int
    time: datetime


def make_point(name: str, value: float, step: int, time: datetime) -> MetricPoint:
    """A point whose parts every database can hold; numbers of NumPy and one-element tensors become plain ones.

    Raises:
        InputError: `value` is no number, or `step` no whole number of 64 bits.
    """
    try:
        plain_value, plain_step = float(value), int(step)
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(
            f"cannot record {name!r}: value={value!r}, step={step!r}, expected a number and a whole number",
            next_step="pass float(value) and the count of steps so far",
        ) from error
    if not -_STEP_LIMIT <= plain_step < _STEP_LIMIT:
        raise InputError(
            f"cannot record {name!r} at step {step}: expected less than 2**63", next_step="count steps from 0"
        )
    return MetricPoint(name, plain_value, plain_step, time)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """A run as the store knows it at the moment of asking.

    `finished` and `error` are None while it runs. A run whose process was killed stays "running" until it is resumed
    or finished by someone: its `environment` holds host and pid.
    """

    id: str
    kind: str
    name: str
    status: RunStatus
    config: Json
    code: str | None
    dataset: Ref | None
    parent: str | None
    started: datetime
    finished: datetime | None
    error: str | None
    environment: Mapping[str, Json]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEvent:
    """Something that happened once in a run: a worker lost, a checkpoint written."""

    run: str
    kind: str
    fields: Mapping[str, Json]
    time: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """Content kept under its digest; `size_bytes` of a folder is the sum over its files."""

    digest: str
    kind: ArtifactKind
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    """`target` came from `source`; `relation` says how, such as "trained_on" or "registered_as"."""

    source: Ref
    target: Ref
    relation: str
    time: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelVersion:
    """One registered package: `path` is the store's own copy, so the original may go.

    A handle of kind "model_version": `address` is "fashion@3", `digest` is that of the package's content.
    """

    name: str
    version: int
    digest: str
    path: Path
    run: str | None
    metrics: Mapping[str, float]
    created: datetime

    @property
    def kind(self) -> str:
        """The handle's kind."""
        return "model_version"

    @property
    def address(self) -> str:
        """The name people type, such as "fashion@3"."""
        return f"{self.name}@{self.version}"


register_handle("model_version", "shoal.store.opening:open_model_version")


@dataclass(frozen=True, slots=True, kw_only=True)
class AliasMove:
    """One line of an alias's history; `results` are the gates that allowed a promote, empty for other moves."""

    time: datetime
    alias: str
    version: int
    previous: int | None
    reason: MoveReason
    results: tuple[GateResult, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """Something a person or a trigger should look at; open while `closed` is None."""

    id: int
    kind: str
    subject: str
    fields: Mapping[str, Json]
    opened: datetime
    closed: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoEntry:
    """The kept result of one step of a flow: its bytes `inline`, or the digest of an `artifact`, never both.

    `explain` holds the named parts that the key was made of, to say later which of them changed.
    """

    key: str
    flow: str
    step: str
    codec: str
    inline: bytes | None
    artifact: str | None
    explain: Json
    created: datetime
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """The truth about one prediction, known at `time`, UTC."""

    prediction_id: str
    value: Json
    time: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One line of the change stream; `sequence` grows by commit order, so nothing slips in behind a reader."""

    sequence: int
    kind: ChangeKind
    subject: str
    fields: Mapping[str, Json]
    time: datetime
