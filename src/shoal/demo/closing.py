"""Stages 10 to 12: score a dataset offline, follow one prediction back to its sources, and the closing table."""

import shutil

from rich.table import Table

from shoal.data import Dataset
from shoal.demo.display import Display
from shoal.demo.scene import Scene
from shoal.demo.summary import Summary, WhyFigures
from shoal.model import Package, predict, why

SCORING_WORKERS = 2


def score(scene: Scene, package: Package, data: Dataset) -> int:
    """Score every row of a dataset anew and return how many rows came out."""
    out = scene.folder / "scored"
    # An earlier run's rows would be kept as finished parts; this run's figures are to be its own.
    shutil.rmtree(out, ignore_errors=True)
    with scene.display.working("scoring"):
        scored = predict(package, data, out, workers=SCORING_WORKERS)
    scene.display.line("scored", f"{scored.num_rows:,} rows into {out}, one for each of {data.num_rows:,}")
    return scored.num_rows


def explain(scene: Scene, prediction_id: str) -> WhyFigures:
    """Go back from a prediction to everything that made it."""
    found = why(prediction_id, store=scene.store, log_folder=scene.log_folder.parent)
    figures = WhyFigures(
        prediction_id=prediction_id,
        input_shard=str(found.input_shard),
        input_row=found.input_row,
        model=found.model,
        run=found.run or "",
        code=found.code or "",
        dataset=found.dataset or "",
        shards=tuple(str(shard) for shard in found.shards),
        sources=tuple(
            {"path": source.path, "digest": source.digest, "rows": source.num_rows} for source in found.sources
        ),
    )
    display = scene.display
    display.line("prediction", prediction_id)
    display.line("input", f"row {figures.input_row} of {figures.input_shard}")
    display.line("model", f"{figures.model}, trained by {figures.run} with code {figures.code[:19]}")
    display.line("dataset", f"{figures.dataset}, {len(figures.shards)} shards")
    for source in figures.sources:
        display.line("source", f"{source['path']}  {source['digest'][:19]}")
    return figures


def print_table(display: Display, summary: Summary) -> None:
    """Print the figures that decide whether the loop has closed."""
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 4))
    for name, value in _rows(summary):
        table.add_row(f"[dim]{name}[/dim]", value)
    display.console.print(table)


def _rows(summary: Summary) -> list[tuple[str, str]]:
    drift, serving = summary.drift, summary.serving
    failed = serving.failed_after_kill + summary.canary_failed_requests + summary.rollback_failed_requests
    return [
        ("test accuracy", f"{summary.test_accuracy:.3f}  (linear baseline {summary.baseline_accuracy:.3f})"),
        ("int8", f"{summary.quantized.speedup:.2f}x, {'kept' if summary.quantized.kept else 'not kept'}"),
        ("serving", f"{serving.rps:,.0f} requests/s, p50 {serving.p50_ms:.1f} ms, p99 {serving.p99_ms:.1f} ms"),
        ("failed requests", f"{failed}  at kill, canary, swap, rollback and roll forward"),
        ("false alerts", f"{drift.false_alerts} in {drift.clean_windows} clean windows"),
        ("alert", f"after {drift.windows_to_alert} windows" if drift.alert else "NONE"),
        ("accuracy", f"{drift.accuracy_before:.3f} -> {drift.accuracy_during:.3f} -> {drift.accuracy_after:.3f}"),
        ("steps", f"{summary.steps_run} ran, {summary.steps_reused} reused"),
        ("total", f"{summary.total_s:.0f} s"),
    ]
