"""Every figure of one demo run, in one shape that `summary.json`, the closing table and the report all read."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from shoal.base import json, write_atomic


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantizedFigures:
    """The int8 candidate beside the float package."""

    accuracy: float
    speedup: float
    kept: bool
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingFigures:
    """Single-image requests over HTTP while one replica was killed."""

    accuracy: float
    rps: float
    p50_ms: float
    p99_ms: float
    failed_after_kill: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftFigures:
    """What the watcher saw and what the labels said."""

    alert: bool
    false_alerts: int
    clean_windows: int
    windows_to_alert: int
    columns: tuple[str, ...]
    accuracy_before: float
    accuracy_during: float
    accuracy_after: float


@dataclass(frozen=True, slots=True, kw_only=True)
class WhyFigures:
    """The way back from one prediction."""

    prediction_id: str
    input_shard: str
    input_row: int | None
    model: str
    run: str
    code: str
    dataset: str
    shards: tuple[str, ...]
    sources: tuple[dict[str, Any], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """All figures of one run; accuracies are shares of 1."""

    test_accuracy: float
    baseline_accuracy: float
    quantized: QuantizedFigures
    serving: ServingFigures
    drift: DriftFigures
    rollback_failed_requests: int
    canary_failed_requests: int
    steps_reused: int
    steps_run: int
    rows_scored: int
    why: WhyFigures
    total_s: float

    def write(self, path: Path) -> None:
        """Write the figures to `path` as indented JSON, completely or not at all."""
        write_atomic(path, json.pretty(asdict(self)).encode())
