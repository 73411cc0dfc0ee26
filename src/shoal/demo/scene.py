"""What every stage after the flow works with: the store, the display, and the service once it runs."""

from dataclasses import dataclass
from pathlib import Path

from shoal.base import SegmentReader
from shoal.data import Dataset
from shoal.demo.display import Display
from shoal.model import AtLeast, AtMost, Beats, Gate, NotWorse, Package, evaluate, gate, open_package
from shoal.serve import Server
from shoal.store import GateReport, ModelVersion, Store

MODEL = "fashion"
MIN_ACCURACY = 0.88
MAX_LATENCY_MS = 5.0
# Production may be replaced by a version this little worse on the same rows: two trainings differ by about as much.
TOLERANCE = 0.01


@dataclass(frozen=True, slots=True)
class Scene:
    """Open handles of one demo run; its owner closes them."""

    store: Store
    display: Display
    folder: Path
    server: Server | None = None

    @property
    def log_folder(self) -> Path:
        """The prediction log of the demo's model."""
        return self.store.home / "predictions" / MODEL

    @property
    def running(self) -> Server:
        """The service; only stages after its start ask."""
        assert self.server is not None
        return self.server

    def num_logged(self) -> int:
        """Rows of the prediction log so far, those of earlier demo runs included."""
        self.running.sync_log()
        return SegmentReader(self.log_folder).num_rows if self.log_folder.exists() else 0


def register(scene: Scene, package: Package, accuracy: float) -> ModelVersion:
    """Put a package into the registry under its test accuracy; known content keeps its version."""
    return scene.store.models.register(MODEL, package, metrics={**package.metrics, "accuracy": accuracy})


def judge(scene: Scene, package: Package, test: Dataset, *, accuracy: float, beats: float | None) -> GateReport:
    """Apply the gates of the demo to a package and print each verdict.

    Args:
        scene: where production is looked up.
        package: the candidate.
        test: rows on which production is measured anew: figures from other rows would not compare.
        accuracy: of the candidate on these rows.
        beats: the baseline's accuracy on these rows, plus margin; None when the baseline itself is the candidate.
    """
    models = scene.store.models
    than = None
    if MODEL in models.names() and "production" in models.aliases(MODEL):
        production = models.get(f"{MODEL}@production")
        than = evaluate(open_package(production.path), test, label="label").accuracy
        scene.display.line("production", f"{production.address}, accuracy {than:.3f} on the same test rows")
    gates: list[Gate] = [
        AtLeast("accuracy", MIN_ACCURACY if beats is not None else 0.0),
        NotWorse("accuracy", than, TOLERANCE),
        AtMost("latency_p50_ms", MAX_LATENCY_MS),
    ]
    if beats is not None:
        gates.insert(0, Beats("accuracy", beats))
    report = gate(package, gates, metrics={"accuracy": accuracy})
    for result in report.results:
        scene.display.line("gate", f"{'passed' if result.passed else 'FAILED'}  {result.message or result.name}")
    return report
