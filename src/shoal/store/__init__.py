"""What happened: runs, metrics, artifacts, lineage, the model registry, and one stream that tells of every change."""

from typing import TYPE_CHECKING

from shoal.base import lazy_face

if TYPE_CHECKING:
    from shoal.store.base import Alerts as Alerts
    from shoal.store.base import Artifacts as Artifacts
    from shoal.store.base import Labels as Labels
    from shoal.store.base import Lineage as Lineage
    from shoal.store.base import Memo as Memo
    from shoal.store.base import Metrics as Metrics
    from shoal.store.base import Models as Models
    from shoal.store.base import PackageLike as PackageLike
    from shoal.store.base import Runs as Runs
    from shoal.store.base import Store as Store
    from shoal.store.gate_report import GateReport as GateReport
    from shoal.store.gate_report import GateResult as GateResult
    from shoal.store.opening import open as open  # noqa: A004  # the verb is read as shoal.store.open
    from shoal.store.recording import Run as Run
    from shoal.store.records import Alert as Alert
    from shoal.store.records import AliasMove as AliasMove
    from shoal.store.records import Artifact as Artifact
    from shoal.store.records import Change as Change
    from shoal.store.records import Edge as Edge
    from shoal.store.records import Label as Label
    from shoal.store.records import MemoEntry as MemoEntry
    from shoal.store.records import MetricPoint as MetricPoint
    from shoal.store.records import ModelVersion as ModelVersion
    from shoal.store.records import RunEvent as RunEvent
    from shoal.store.records import RunRecord as RunRecord

__all__ = [
    "Alert",
    "Alerts",
    "AliasMove",
    "Artifact",
    "Artifacts",
    "Change",
    "Edge",
    "GateReport",
    "GateResult",
    "Label",
    "Labels",
    "Lineage",
    "Memo",
    "MemoEntry",
    "MetricPoint",
    "Metrics",
    "ModelVersion",
    "Models",
    "PackageLike",
    "Run",
    "RunEvent",
    "RunRecord",
    "Runs",
    "Store",
    "open",
]
__getattr__ = lazy_face(
    __name__,
    {
        "Alert": "records",
        "Alerts": "base",
        "AliasMove": "records",
        "Artifact": "records",
        "Artifacts": "base",
        "Change": "records",
        "Edge": "records",
        "GateReport": "gate_report",
        "GateResult": "gate_report",
        "Label": "records",
        "Labels": "base",
        "Lineage": "base",
        "Memo": "base",
        "MemoEntry": "records",
        "MetricPoint": "records",
        "Metrics": "base",
        "ModelVersion": "records",
        "Models": "base",
        "PackageLike": "base",
        "Run": "recording",
        "RunEvent": "records",
        "RunRecord": "records",
        "Runs": "base",
        "Store": "base",
        "open": "opening",
    },
)
