"""The demo's report: one HTML file that carries its own style and pictures and opens without a network."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shoal.base import write_atomic
from shoal.demo import plots
from shoal.demo.summary import Summary
from shoal.demo.watching import DriftStory
from shoal.model import Evaluation

LossCurves = dict[str, tuple[Sequence[int], Sequence[float]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """What the report draws beside the summary's figures."""

    summary: Summary
    classes: Sequence[str]
    loss_curves: LossCurves
    candidates: Sequence[dict[str, Any]]
    evaluation: Evaluation
    latency_ms: NDArray[np.float64]
    drift: DriftStory


def write_report(material: Material, path: Path) -> None:
    """Write the page to `path`, completely or not at all."""
    style = resources.files("shoal.demo").joinpath("report.css").read_text(encoding="utf-8")
    body = "\n".join([_head(material.summary), '<div class="grid">', *_sections(material), "</div>"])
    page = (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>shoal demo</title><style>{style}</style></head><body><main>{body}"
        f"<footer>Total {material.summary.total_s:.0f} s, {material.summary.steps_reused} steps reused, "
        f"{material.summary.steps_run} run. The figures are in summary.json beside this page.</footer>"
        "</main></body></html>\n"
    )
    write_atomic(path, page.encode())


def _head(summary: Summary) -> str:
    failed = summary.serving.failed_after_kill + summary.rollback_failed_requests + summary.canary_failed_requests
    cards = [
        ("test accuracy", _percent(summary.test_accuracy)),
        ("linear baseline", _percent(summary.baseline_accuracy)),
        ("requests a second", f"{summary.serving.rps:,.0f}"),
        ("p99 latency", f"{summary.serving.p99_ms:.1f} ms"),
        ("failed requests", f"{failed}"),
        ("after retraining", _percent(summary.drift.accuracy_after)),
    ]
    drawn = "".join(f'<div class="figure"><b>{value}</b><span>{name}</span></div>' for name, value in cards)
    return (
        "<h1>From raw files to a service that watches itself</h1>"
        '<p class="lead">Fashion-MNIST was ingested, and three networks were trained beside a linear baseline. '
        "The best was packaged, gated and served, broken on purpose, watched while the world changed, retrained "
        "and served again."
        f'</p><div class="figures">{drawn}</div>'
    )


def _sections(material: Material) -> Iterable[str]:
    summary, story = material.summary, material.drift
    yield _section("Training", "Loss of each candidate on its training batches.", plots.losses(material.loss_curves))
    yield _section(
        "Candidates", "Chosen on validation data; the linear baseline has to be beaten.", _candidates(material)
    )
    yield _section(
        "Confusion on test data",
        f"Expected calibration error {100 * material.evaluation.expected_calibration_error:.1f} %.",
        plots.confusion(np.asarray(material.evaluation.confusion), material.classes),
    )
    yield _section("By class", "Precision, recall and F1 on test data, in per cent.", _by_class(material))
    yield _section(
        "Latency",
        "Single-image requests over HTTP with two replicas, one of them killed on the way: "
        f"{summary.serving.failed_after_kill} failed.",
        plots.latency(material.latency_ms),
    )
    yield _section(
        "Drift",
        f"{summary.drift.false_alerts} alerts in {summary.drift.clean_windows} clean windows; the alert came in window "
        f"{summary.drift.windows_to_alert} after the images changed.",
        plots.drift(story.distances, story.thresholds, changed_at=story.changed_at),
    )
    yield _section(
        "Accuracy before, during and after drift",
        "Clean images, changed images, and changed images never trained on after retraining.",
        plots.accuracies(
            {
                "before": summary.drift.accuracy_before,
                "during": summary.drift.accuracy_during,
                "after": summary.drift.accuracy_after,
            }
        ),
    )
    yield _section("int8", escape(summary.quantized.reason), _quantized(summary))
    yield _section("Why", "The way back from one prediction.", _why(summary), wide=True)


def _section(title: str, text: str, content: str, *, wide: bool = False) -> str:
    return f'<section class="{"wide" if wide else ""}"><h2>{title}</h2><p>{text}</p>{content}</section>'


def _candidates(material: Material) -> str:
    rows = [
        [escape(candidate["name"]), _percent(candidate["accuracy"]), f"{candidate['samples_per_s']:,.0f}"]
        for candidate in material.candidates
    ]
    return _table(["candidate", "validation accuracy", "samples a second"], rows)


def _by_class(material: Material) -> str:
    found = material.evaluation
    columns = zip(material.classes, found.precision, found.recall, found.f1, strict=True)
    rows = [[escape(name), *(f"{100 * value:.1f}" for value in values)] for name, *values in columns]
    return _table(["class", "precision", "recall", "F1"], rows)


def _quantized(summary: Summary) -> str:
    kept = '<span class="good">kept</span>' if summary.quantized.kept else "not kept: the float package serves"
    rows = [
        ["accuracy", _percent(summary.quantized.accuracy)],
        ["speed against float", f"{summary.quantized.speedup:.2f}×"],
        ["decision", kept],
    ]
    return _table(["int8 package", ""], rows)


def _why(summary: Summary) -> str:
    why = summary.why
    sources = "<br>".join(
        f"{escape(Path(source['path']).name)} <code>{source['digest'][:19]}…</code>" for source in why.sources
    )
    rows = [
        ["prediction", f"<code>{escape(why.prediction_id)}</code>"],
        ["logged input", f"row {why.input_row} of <code>{escape(Path(why.input_shard).name)}</code>"],
        ["model", escape(why.model)],
        ["run", escape(why.run)],
        ["code", f"<code>{escape(why.code)}</code>"],
        ["dataset", f"<code>{escape(why.dataset)}</code>"],
        ["shards", f"{len(why.shards)}, the first <code>{escape(Path(why.shards[0]).name[:16])}…</code>"],
        ["sources", sources],
    ]
    return _table(["", ""], rows, numbers=False)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: bool = True) -> str:
    def line(cells: Sequence[str], tag: str) -> str:
        drawn = (
            f"<{tag}{' class=number' if numbers and place else ''}>{cell}</{tag}>" for place, cell in enumerate(cells)
        )
        return "<tr>" + "".join(drawn) + "</tr>"

    top = f"<thead>{line(head, 'th')}</thead>" if any(head) else ""
    return f"<table>{top}<tbody>{''.join(line(row, 'td') for row in rows)}</tbody></table>"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
