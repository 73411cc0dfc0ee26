"""The demo from beginning to end: twelve stages, each a few calls of shoal and a line that says what came of it."""

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import click
import numpy as np
from rich.console import Console

import shoal.serve
import shoal.store
from shoal.base import json
from shoal.data import Dataset
from shoal.demo import retraining
from shoal.demo.candidates import BASELINE, CANDIDATES
from shoal.demo.closing import explain, print_table, score
from shoal.demo.display import Display, follow_training
from shoal.demo.fashion import CLASSES, CONTENT_SHA256, find_fashion_mnist
from shoal.demo.pausing import invite
from shoal.demo.pipeline import MARGIN, build_model, split
from shoal.demo.report import LossCurves, Material, write_report
from shoal.demo.scene import MODEL, Scene, judge, register
from shoal.demo.serving import serve_and_kill
from shoal.demo.summary import DriftFigures, QuantizedFigures, Summary
from shoal.demo.traffic import Answers
from shoal.demo.watching import DriftStory, watch_changed, watch_clean
from shoal.flow import File, FlowRun, StepOutcome
from shoal.model import Evaluation, Package

CANARY_IMAGES = 4000
SWING_IMAGES = 2500


@dataclass(frozen=True, slots=True)
class Built:
    """What the flow made: stages 1 to 5, or their second round."""

    run: FlowRun
    data: Dataset
    package: Package
    evaluation: Evaluation
    baseline: Evaluation
    value: dict[str, Any]

    @property
    def test(self) -> Dataset:
        """The test rows of this round's dataset version."""
        return split(self.data).test

    @property
    def mark(self) -> float | None:
        """The accuracy that a complex model must reach; None when the baseline itself was chosen."""
        chosen = self.value["best"]["name"]
        return None if chosen == "baseline" else self.baseline.accuracy + MARGIN


def run_demo(*, folder: Path | None = None, pause: bool = False, port: int = 0, as_json: bool = False) -> Summary:
    """Run the whole story in this folder's `.shoal` and return its figures.

    Args:
        folder: with the four files of Fashion-MNIST; None finds or fetches them.
        pause: stop once the service runs, until the reader presses return.
        port: of the service; 0 takes a free one.
        as_json: print the figures as JSON on standard output, and the lines on standard error.
    """
    began = time.monotonic()
    display = Display(Console(stderr=as_json))
    files = find_fashion_mnist(folder, say=display.note)
    with shoal.store.open() as store:
        scene = Scene(store, display, store.home / "demo")
        scene.folder.mkdir(parents=True, exist_ok=True)
        material = _tell(scene, [File(files / name) for name in CONTENT_SHA256], pause=pause, port=port, began=began)
        curves = _loss_curves(scene, material.candidates)
    material = replace(material, loss_curves=curves)
    material.summary.write(scene.folder / "summary.json")
    write_report(material, scene.folder / "report.html")
    display.heading(12, "Summary")
    print_table(display, material.summary)
    display.line("report", str(scene.folder / "report.html"))
    display.line("figures", str(scene.folder / "summary.json"))
    display.note("\nnext  shoal serve run fashion@production")
    if as_json:
        click.echo(json.pretty(material.summary))
    return material.summary


def _tell(scene: Scene, files: list[File], *, pause: bool, port: int, began: float) -> Material:
    display = scene.display
    display.heading(1, "Build: dataset, baseline, candidates, package")
    first = _build(scene, files, labelled=None, candidates=CANDIDATES)
    display.heading(6, "Register and promote")
    version = register(scene, first.package, first.evaluation.accuracy)
    results = judge(scene, first.package, first.test, accuracy=first.evaluation.accuracy, beats=first.mark)
    scene.store.models.promote(MODEL, version, results=results)
    display.line("promoted", f"{version.address} is production")
    parts = split(first.data)
    test, live = parts.test.arrays(), parts.live.arrays()
    display.heading(7, "Serve, and kill a replica")
    with shoal.serve.start(f"{MODEL}@production", store=scene.store, replicas=2, port=port) as server:
        scene = replace(scene, server=server)
        pids = server.pids()
        display.line(
            "serving", f"{server.url}, front {pids['front']}, replicas {', '.join(map(str, pids['replicas']))}"
        )
        if pause:
            invite(scene, test["image"])
        first_row = scene.num_logged()
        serving, answers = serve_and_kill(scene, test["image"], test["label"])
        display.heading(8, "The world changes")
        watcher, story = watch_clean(scene, first.package, since_row=first_row)
        changed_row = scene.num_logged()
        watch_changed(scene, watcher, story, live["image"], live["label"])
        display.heading(9, "Retrain, canary, promote, roll back and forward")
        second, canary_failed, swing_failed, after = _retrain(scene, files, first, changed_row, test)
    display.heading(10, "Score offline")
    scored = score(scene, second.package, parts.test)
    display.heading(11, "Why")
    why = explain(scene, answers.ids[len(answers.ids) // 2])
    quantized = first.value["quantized"]
    summary = Summary(
        test_accuracy=first.evaluation.accuracy,
        baseline_accuracy=first.baseline.accuracy,
        quantized=QuantizedFigures(**{name: quantized[name] for name in ("accuracy", "speedup", "kept", "reason")}),
        serving=serving,
        drift=_drift_figures(story, before=serving.accuracy, after=after),
        rollback_failed_requests=swing_failed,
        canary_failed_requests=canary_failed,
        steps_reused=first.run.num_reused + second.run.num_reused,
        steps_run=first.run.num_run + second.run.num_run,
        rows_scored=scored,
        why=why,
        total_s=time.monotonic() - began,
    )
    return _material(summary, first, answers, story)


def _build(
    scene: Scene, files: list[File], *, labelled: Dataset | None, candidates: dict[str, dict[str, Any]]
) -> Built:
    display = scene.display
    with display.working("working"), follow_training(display, scene.store):
        run = build_model.run(
            store=scene.store,
            files=files,
            folder=str(scene.folder / MODEL),
            labelled=labelled,
            candidates=candidates,
            baseline=BASELINE,
            progress=lambda outcome: display.line("step", _outcome_text(outcome)),
        )
    value = cast("dict[str, Any]", run.value)
    built = Built(
        run=run,
        data=value["data"],
        package=value["quantized"]["package"],
        evaluation=Evaluation.from_json(value["evaluation"]),
        baseline=Evaluation.from_json(value["baseline"]),
        value=value,
    )
    _print_built(display, built)
    return built


def _outcome_text(outcome: StepOutcome) -> str:
    return f"{outcome.name:<14} {'reused' if outcome.reused else f'{outcome.seconds:.1f} s'}"


def _print_built(display: Display, built: Built) -> None:
    data, found = built.data, built.evaluation
    display.line("dataset", f"{data.name}@{data.version}: {data.num_rows:,} rows in {len(data.shards)} shards")
    display.line("baseline", f"linear, test accuracy {built.baseline.accuracy:.3f}")
    for candidate in built.value["candidates"]:
        display.line("candidate", retraining.describe(candidate))
    display.line("chosen", f"{built.value['best']['name']} by validation accuracy, at least {MARGIN:.2f} above linear")
    display.line(
        "test",
        f"accuracy {found.accuracy:.3f}, macro F1 {found.f1.mean():.3f}, "
        f"calibration error {found.expected_calibration_error:.3f}",
    )
    display.line("int8", built.value["quantized"]["reason"])
    display.line("steps", f"{built.run.num_run} ran, {built.run.num_reused} reused")


def _retrain(
    scene: Scene, files: list[File], first: Built, changed_row: int, test: dict[str, Any]
) -> tuple[Built, int, int, float]:
    grown = retraining.append_labelled(scene, first.data, since_row=changed_row)
    winner = first.value["best"]["name"]
    again = CANDIDATES if winner == "baseline" else {winner: CANDIDATES[winner]}
    second = _build(scene, files, labelled=grown, candidates=again)
    version = register(scene, second.package, second.evaluation.accuracy)
    results = judge(scene, second.package, second.test, accuracy=second.evaluation.accuracy, beats=second.mark)
    few = slice(0, CANARY_IMAGES)
    seen = retraining.run_canary(scene, version, results, test["image"][few], test["label"][few])
    retraining.promote(scene, version, results)
    after = retraining.accuracy_on_changed(scene, test["image"], test["label"])
    failed = retraining.swing(scene, test["image"][:SWING_IMAGES])
    return second, seen.failed, failed, after


def _drift_figures(story: DriftStory, *, before: float, after: float) -> DriftFigures:
    return DriftFigures(
        alert=story.windows_to_alert > 0,
        false_alerts=story.false_alerts,
        clean_windows=story.changed_at,
        windows_to_alert=story.windows_to_alert,
        columns=story.columns,
        accuracy_before=before,
        accuracy_during=story.accuracy_during,
        accuracy_after=after,
    )


def _material(summary: Summary, first: Built, answers: Answers, story: DriftStory) -> Material:
    return Material(
        summary=summary,
        classes=CLASSES,
        loss_curves={},
        candidates=first.value["candidates"],
        evaluation=first.evaluation,
        latency_ms=np.asarray(answers.latency_ms[answers.classes >= 0]),
        drift=story,
    )


def _loss_curves(scene: Scene, candidates: Any) -> LossCurves:  # noqa: ANN401 - JSON
    curves: LossCurves = {}
    for candidate in candidates:
        points = scene.store.metrics.curve(candidate["run"], "train.loss")
        curves[candidate["name"]] = ([point.step for point in points], [point.value for point in points])
    return curves
