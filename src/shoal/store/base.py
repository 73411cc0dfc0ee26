"""The store's narrow interfaces and their promises; `shoal.testing.StoreContract` holds every backend to them.

Common to all: callable from any thread, and from several processes at once. What a call has written survives the death
of any process when it returns, and a power cut a second later; registry moves survive a power cut when they return.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from shoal.base import Json, Ref
from shoal.store.gate_report import GateReport
from shoal.store.recording import Run
from shoal.store.records import (
    Alert,
    AliasMove,
    Artifact,
    Change,
    Edge,
    Label,
    MemoEntry,
    MetricPoint,
    ModelVersion,
    RunEvent,
    RunRecord,
)


class PackageLike(Protocol):
    """Anything that lies at `path` with content `digest`."""

    @property
    def path(self) -> Path:
        """The file or folder."""

    @property
    def digest(self) -> str:
        """The digest of its content when it was opened."""


class Runs(Protocol):
    """What was computed, when, from what and with which result."""

    def start(
        self,
        *,
        kind: str,
        name: str,
        config: Json,
        code: str | None = None,
        dataset: Ref | None = None,
        parent: str | None = None,
        environment: Mapping[str, Json] | None = None,
    ) -> Run:
        """Begin a run under the next number and make its folder. `environment` is added to what is always recorded."""

    def resume(self, id: str) -> Run:
        """Take up a run again under its own number, whatever its status: metrics and events go on where they were."""

    def get(self, id: str) -> RunRecord:
        """The run's record; NotFoundError if there is none."""

    def events(self, id: str) -> list[RunEvent]:
        """What happened in the run, in order."""

    def list(self, kind: str | None = None, status: str | None = None, limit: int = 100) -> list[RunRecord]:
        """The newest runs first."""


class Metrics(Protocol):
    """Curves: float by step, per run and name."""

    def record(self, run_id: str, points: Iterable[MetricPoint]) -> None:
        """Write all points or none. A point at a step that the curve has replaces it, so writing twice is safe."""

    def curve(self, run_id: str, name: str) -> list[MetricPoint]:
        """The points by growing step; empty if the run has no such curve."""

    def latest(self, run_id: str) -> dict[str, float]:
        """Of each curve the value at its highest step."""

    def names(self, run_id: str) -> list[str]:
        """The run's curves, sorted."""


class Artifacts(Protocol):
    """Content under its digest; the same content twice is stored once."""

    def put_bytes(self, data: bytes) -> Artifact:
        """Keep the bytes; a full disk leaves nothing behind."""

    def put_file(self, path: Path) -> Artifact:
        """Keep a copy of the file."""

    def put_folder(self, path: Path) -> Artifact:
        """Keep a copy of the folder."""

    def path(self, digest: str) -> Path:
        """Where the content lies, to be read only; NotFoundError if it is not here."""

    def contains(self, digest: str) -> bool:
        """Whether `path` would find it."""


class Lineage(Protocol):
    """What came from what. A thing with a digest is the same thing at any address."""

    def link(self, source: Ref, target: Ref, relation: str) -> None:
        """Remember that `target` came from `source`; telling it again changes nothing."""

    def sources_of(self, ref: Ref) -> list[Edge]:
        """The edges that end here, oldest first."""

    def targets_of(self, ref: Ref) -> list[Edge]:
        """The edges that begin here, oldest first."""

    def upstream(self, ref: Ref) -> list[Edge]:
        """Every edge on any way to `ref`, nearest first, each once, also where ways meet or go in a circle."""


class Models(Protocol):
    """The registry: versions of named models, and which of them an alias means."""

    def register(
        self,
        name: str,
        package: Path | PackageLike,
        *,
        run: str | None = None,
        metrics: Mapping[str, float] | None = None,
    ) -> ModelVersion:
        """Copy the package into the artifacts under the name's next version; known content gets its old version back.

        CorruptError if the content is not what `package.digest` says; NotFoundError if `run` is not in this store.
        """

    def get(self, address: str) -> ModelVersion:
        """The version meant by "fashion@3", by "fashion@production", or by "fashion": production, else the newest."""

    def versions(self, name: str) -> list[ModelVersion]:
        """All versions, oldest first."""

    def names(self) -> list[str]:
        """All models, sorted."""

    def aliases(self, name: str) -> dict[str, int]:
        """The version that each alias means now."""

    def promote(
        self, name: str, version: int | ModelVersion, alias: str = "production", *, results: GateReport
    ) -> ModelVersion:
        """Let the alias mean this version, and end a canary of it; durable when it returns.

        GateError unless the results are about this version's content, at least one, and all passed.
        """

    def canary(self, name: str, version: int | ModelVersion, share: float, *, results: GateReport) -> None:
        """Send this share, 0 < share < 1, of production's traffic to the version; replaces an earlier canary.

        GateError as for `promote`: a part of production is production.
        """

    def end_canary(self, name: str) -> None:
        """Send all traffic to production again; nothing happens where there is no canary."""

    def canary_of(self, name: str) -> tuple[ModelVersion, float] | None:
        """The canary and its share."""

    def rollback(self, name: str, alias: str = "production") -> ModelVersion:
        """Back to the version that held the alias before; NotFoundError if none did."""

    def forward(self, name: str, alias: str = "production") -> ModelVersion:
        """Undo the last rollback; NotFoundError if none is left to undo."""

    def history(self, name: str) -> list[AliasMove]:
        """Every move of every alias, oldest first."""


class Alerts(Protocol):
    """What somebody should look at."""

    def record(self, kind: str, subject: str, fields: Mapping[str, Json]) -> Alert:
        """Open an alert."""

    def list(self, subject: str | None = None, limit: int = 100) -> list[Alert]:
        """The newest first, open and closed."""

    def close(self, id: int) -> Alert:
        """Close it; closing again changes nothing."""


class Memo(Protocol):
    """Results of a flow's steps by key, and who is computing which."""

    def get(self, key: str) -> MemoEntry | None:
        """The result under this key."""

    def get_many(self, keys: Sequence[str]) -> dict[str, MemoEntry]:
        """The results under those of the keys that have one."""

    def put(self, entry: MemoEntry) -> None:
        """Keep the result; it replaces an earlier one under its key."""

    def put_many(self, entries: Sequence[MemoEntry], *, owner: str | None = None) -> None:
        """Keep all the results or none, and in the same moment give back the owner's claims of their keys."""

    def newest(self, flow: str) -> dict[str, MemoEntry]:
        """The result put last for each step of the flow, without its bytes: what `explain` compares with."""

    def last(self, flow: str, step: str) -> MemoEntry | None:
        """The result put last for this step, under whatever key."""

    def claim(self, key: str, owner: str, ttl_s: float) -> bool:
        """Become the one that computes the key, or stay it, for `ttl_s` seconds from now; False if another one is.

        The claim of an owner that neither released nor renewed it in time lapses.
        """

    def claim_many(self, keys: Sequence[str], owner: str, ttl_s: float) -> dict[str, str]:
        """Try to claim each key, and tell who has it now: this owner, or another one."""

    def release(self, key: str, owner: str) -> None:
        """Give the claim back, if it is this owner's."""


class Labels(Protocol):
    """The truth about predictions, which comes late and may be corrected."""

    def put(self, prediction_id: str, value: Json, time: datetime) -> None:
        """Write one label; InputError if the id is not one that a service gave."""

    def put_many(self, labels: Iterable[Label]) -> int:
        """Write all or none and tell it as one change per model; returns how many."""

    def get(self, ids: Sequence[str]) -> dict[str, Json]:
        """The label written last for each id that has one."""

    def count(self, model: str | None = None) -> int:
        """How many predictions have a label, of one model or of all."""


class Store(Protocol):
    """Everything that happened in one home folder. Closing it flushes and closes the runs started through it."""

    @property
    def home(self) -> Path:
        """The folder that holds runs and artifacts, normally `.shoal`."""

    @property
    def url(self) -> str:
        """What `shoal.store.open` takes to open the same store."""

    @property
    def runs(self) -> Runs:
        """The runs."""

    @property
    def metrics(self) -> Metrics:
        """The runs' curves."""

    @property
    def artifacts(self) -> Artifacts:
        """Content by digest."""

    @property
    def lineage(self) -> Lineage:
        """What came from what."""

    @property
    def models(self) -> Models:
        """The registry."""

    @property
    def alerts(self) -> Alerts:
        """The alerts."""

    @property
    def memo(self) -> Memo:
        """Kept results of steps."""

    @property
    def labels(self) -> Labels:
        """Labels of predictions."""

    def changes(self, since: int) -> Iterator[Change]:
        """What happened after sequence number `since`, in commit order, up to now; it does not wait for more.

        A change is written in the transaction of what it tells: whoever reads it finds the thing itself.
        """

    def last_change(self) -> int:
        """The newest sequence number, 0 in a new store."""

    def close(self) -> None:
        """Flush open runs and let go of the files; closing again changes nothing."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...
