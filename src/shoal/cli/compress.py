"""`shoal compress`: make a package smaller and faster, if it pays."""

import shlex
from pathlib import Path

import click

import shoal.compress
import shoal.data
import shoal.model
from shoal.cli.output import fields, json_option, show


@click.group()
def command() -> None:
    """Make a package smaller and faster, if it pays."""


@command.command("run")
@click.argument("package", type=click.Path(path_type=Path, exists=True))
@click.option("--calibrate", required=True, help="Dataset whose rows set the ranges: training data.")
@click.option("--held-out", help="Dataset on which accuracy is compared; left out, the calibration data.")
@click.option("--label", default="label", show_default=True, help="Column with the truth.")
@click.option("--max-loss", default=0.005, show_default=True, help="Accuracy that may be lost, as a share of 1.")
@json_option
def run_compression(
    package: Path, calibrate: str, held_out: str | None, label: str, max_loss: float, as_json: bool
) -> None:
    """Quantise PACKAGE to int8, if it pays.

    It is kept only where accuracy holds and latency falls; both are measured here and now.
    """
    found = shoal.compress.quantize(
        shoal.model.open_package(package),
        calibrate=shoal.data.open(calibrate),
        held_out=shoal.data.open(held_out) if held_out else None,
        label=label,
        max_loss=max_loss,
    )
    facts = {
        "package": found.package.path,
        "kept": found.kept,
        "reason": found.reason,
        "accuracy_before": found.accuracy_before,
        "accuracy_after": found.accuracy_after,
        "latency_before_ms": found.latency_before_ms,
        "latency_after_ms": found.latency_after_ms,
        "speedup": found.speedup,
    }
    lines = [
        ("package", found.package.path),
        ("kept", "int8" if found.kept else "float"),
        ("reason", found.reason),
        ("accuracy", f"{found.accuracy_before:.4f} -> {found.accuracy_after:.4f}"),
        ("latency", f"{found.latency_before_ms:.3f} -> {found.latency_after_ms:.3f} ms"),
        ("speedup", f"{found.speedup:.2f}"),
    ]
    next_command = f"shoal model register NAME {shlex.quote(str(found.package.path))}"
    show(facts, as_json=as_json, text=fields(lines), next_command=next_command)
