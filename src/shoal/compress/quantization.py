"""int8 packages: quantise, measure beside the float package, keep what pays."""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx

from shoal.base import ConfigError, InputError, PackageError
from shoal.compress.calibration import quantized_graphs
from shoal.compress.decision import Measured, decide
from shoal.model import Evaluation, Package, amend, evaluate, measure_interleaved, with_scores
from shoal.model import package as make_package

if TYPE_CHECKING:
    from shoal.data import Dataset


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantized:
    """What quantising brought; the figures are those of the best int8 variant, also where it is not kept.

    Attributes:
        package: the one to go on with: int8 where `kept`, else the float package itself.
        reason: one sentence with the figures that decided.
        accuracy_before: of the float package on the held-out rows, as a share of 1; `accuracy_after` of the int8 one.
        latency_before_ms: median of one call with one row and one thread; both sides measured in turn, call by call.
    """

    package: Package
    kept: bool
    reason: str
    accuracy_before: float
    accuracy_after: float
    latency_before_ms: float
    latency_after_ms: float
    speedup: float


def quantize(
    package: Package,
    *,
    calibrate: "Dataset",
    label: str,
    held_out: "Dataset | None" = None,
    max_loss: float = 0.005,
    min_speedup: float = 1.0,
    num_calibration_rows: int = 512,
    repeats: int = 300,
    path: str | Path | None = None,
) -> Quantized:
    """Make the int8 variants of a classifier and keep the fastest one that is accurate enough, or the float package.

    The int8 package has the same signature and lineage, the float package as its parent, and metrics and score profile
    of its own. Where int8 is not kept, nothing is written.

    Args:
        package: the float package; it is not changed.
        calibrate: rows of the training data; their ranges fix the int8 scales.
        label: the column with the true class.
        held_out: rows that both packages are judged on; left out, all of `calibrate`, which flatters both alike.
        max_loss: the largest accepted loss of accuracy, as a share of 1: 0.005 is half a point.
        min_speedup: keep int8 only if it is more than this many times as fast.
        num_calibration_rows: taken evenly over `calibrate`.
        repeats: measured calls per package.
        path: the folder of an int8 package that is kept; left out, beside other packages in the nearest `.shoal`.

    Raises:
        InputError: a dataset lacks a column, or the package is no classifier.
        PackageError: the graph cannot be quantised.
    """
    _check(package, max_loss, min_speedup, num_calibration_rows)
    judged_on = calibrate if held_out is None else held_out
    before = evaluate(package, judged_on, label=label)
    with tempfile.TemporaryDirectory(prefix="shoal-quantize-") as folder:
        variants = list(_variants(package, calibrate, num_calibration_rows, Path(folder)))
        packages = dict(variants)
        after = {name: evaluate(variant, judged_on, label=label) for name, variant in packages.items()}
        measured = _measure(package, packages, before, after, repeats)
        decision = decide(measured, max_loss=max_loss, min_speedup=min_speedup)
        kept = package
        if decision.kept:
            best = packages[decision.best.name]
            profile = None if package.profile is None else with_scores(package.profile, best, judged_on)
            kept = amend(best, metrics=after[decision.best.name].metrics(), profile=profile, path=path)
    return Quantized(
        package=kept,
        kept=decision.kept,
        reason=decision.reason,
        accuracy_before=before.accuracy,
        accuracy_after=decision.best.accuracy,
        latency_before_ms=decision.best.before_ms,
        latency_after_ms=decision.best.after_ms,
        speedup=decision.best.speedup,
    )


def _variants(package: Package, calibrate: "Dataset", num_rows: int, folder: Path) -> Iterator[tuple[str, Package]]:
    rows = calibrate.take(np.linspace(0, calibrate.num_rows - 1, min(num_rows, calibrate.num_rows)).astype(np.int64))
    inputs = package.signature.inputs_from(rows)
    package.signature.check(inputs)
    manifest = package.manifest
    for variant, graph in quantized_graphs(package, inputs):
        yield (
            variant,
            make_package(
                graph,
                example=package.examples()[0],
                name=manifest.name,
                path=folder / variant,
                kind=manifest.kind,
                run=manifest.run,
                code=manifest.code,
                dataset=manifest.dataset,
                parent=package,
            ),
        )


def _measure(
    package: Package, variants: dict[str, Package], before: Evaluation, after: dict[str, Evaluation], repeats: int
) -> list[Measured]:
    # All of them in one measurement: the float package meets the same noise as each variant.
    base, *latencies = measure_interleaved([package, *variants.values()], repeats=repeats)
    return [
        Measured(
            name=name,
            accuracy_before=before.accuracy,
            accuracy=after[name].accuracy,
            before_ms=base.p50_ms,
            after_ms=latency.p50_ms,
        )
        for name, latency in zip(variants, latencies, strict=True)
    ]


def _check(package: Package, max_loss: float, min_speedup: float, num_calibration_rows: int) -> None:
    if max_loss < 0 or min_speedup < 0 or num_calibration_rows < 1:
        raise ConfigError(
            f"max_loss={max_loss} and min_speedup={min_speedup} must be >= 0, num_calibration_rows="
            f"{num_calibration_rows} >= 1",
            next_step="leave them out for the defaults",
        )
    if package.model_kind != "classification":
        raise InputError(
            f"cannot quantise {package.name!r}: it is a {package.model_kind} package, expected classification",
            next_step="keep the float package; only accuracy can tell today what int8 costs",
        )
    if any(node.op_type == "QuantizeLinear" for node in onnx.load(package.onnx_path).graph.node):
        raise PackageError(
            f"cannot quantise {package.path}: it is quantised already", next_step="give the float package it came from"
        )
