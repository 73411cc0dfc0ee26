"""`shoal model`: the registry, gates, offline scoring, and the way back from a prediction."""

from pathlib import Path
from typing import Any

import click

import shoal.model
import shoal.store
from shoal.base import InputError
from shoal.cli.model_predicting import predict
from shoal.cli.output import Function, fields, json_option, show, table


def _gate_options(function: Function) -> Function:
    for name in ("--at-most", "--at-least"):
        function = click.option(name, multiple=True, metavar="METRIC=NUMBER", help="A gate; may be given again.")(
            function
        )
    return function


@click.group()
def command() -> None:
    """Register, promote, roll back, score, and ask why."""


command.add_command(predict)


@command.command("list")
@json_option
def list_models(as_json: bool) -> None:
    """List models, newest versions and aliases."""
    with shoal.store.open(create=False) as store:
        found: list[dict[str, Any]] = [
            {
                "model": name,
                "newest": store.models.versions(name)[-1].address,
                "aliases": store.models.aliases(name),
            }
            for name in store.models.names()
        ]
    rows = [(entry["model"], entry["newest"], _aliases(entry["aliases"])) for entry in found]
    text = table(("model", "newest", "aliases"), rows) if rows else "no models yet"
    show(found, as_json=as_json, text=text, next_command=f"shoal model show {rows[0][0]}" if rows else None)


@command.command("show")
@click.argument("address")
@json_option
def show_model(address: str, as_json: bool) -> None:
    """Show signature and metrics of one version.

    ADDRESS is such as fashion@3 or fashion@production; a bare name means production, else the newest.
    """
    with shoal.store.open(create=False) as store:
        version = store.models.get(address)
    package = shoal.model.open_package(version.path, digest=version.digest)
    signature = package.signature
    run = version.run or package.manifest.run
    text = fields(
        [
            ("model", version.address),
            ("digest", version.digest),
            ("run", run),
            *(("input", f"{spec.name} {spec.dtype} {_shape(spec.shape)}") for spec in signature.inputs),
            *(("output", f"{spec.name} {spec.dtype} {_shape(spec.shape)}") for spec in signature.outputs),
            *((name, f"{value:.6g}") for name, value in version.metrics.items()),
            ("path", version.path),
        ]
    )
    facts = {**_facts(version), "run": run, "inputs": signature.inputs, "outputs": signature.outputs}
    next_command = f"shoal run show {run}" if run else f"shoal serve run {version.address}"
    show(facts, as_json=as_json, text=text, next_command=next_command)


@command.command()
@click.argument("name")
@click.argument("package", type=click.Path(path_type=Path, exists=True))
@json_option
def register(name: str, package: Path, as_json: bool) -> None:
    """Make PACKAGE the next version of NAME."""
    opened = shoal.model.open_package(package)
    with shoal.store.open() as store:
        version = store.models.register(name, opened, metrics=opened.metrics)
    next_command = f"shoal model promote {version.address} --at-least accuracy=0.9"
    show(_facts(version), as_json=as_json, text=f"{version.address}  {version.digest}", next_command=next_command)


@command.command()
@click.argument("address")
@click.option("--alias", default="production", show_default=True, help="The alias to move.")
@_gate_options
@json_option
def promote(address: str, alias: str, at_least: tuple[str, ...], at_most: tuple[str, ...], as_json: bool) -> None:
    """Let the alias mean ADDRESS, if it passes its gates.

    At least one gate is needed. They read the version's metrics; latency_p50_ms and its like are measured.
    """
    gates = _gates(at_least, at_most)
    with shoal.store.open(create=False) as store:
        version = store.models.get(address)
        report = _judge(version, gates)
        store.models.promote(version.name, version, alias, results=report)
    text = f"{_verdicts(report)}\n{version.name}@{alias} is {version.address}"
    facts = {**_facts(version), "alias": alias, "gates": report.results}
    show(facts, as_json=as_json, text=text, next_command=f"shoal serve run {version.name}@{alias}")


@command.command()
@click.argument("address")
@click.option("--share", type=click.FloatRange(0, 1, min_open=True, max_open=True), help="Part of the traffic.")
@click.option("--end", is_flag=True, help="Send all traffic to production again.")
@_gate_options
@json_option
def canary(
    address: str, share: float | None, end: bool, at_least: tuple[str, ...], at_most: tuple[str, ...], as_json: bool
) -> None:
    """Give ADDRESS a share of production's traffic, if it passes its gates.

    The gates are those of promote. Servers that follow production move at once. With --end, ADDRESS is the model's
    name.
    """
    if end == (share is not None):
        raise click.UsageError("give either --share or --end")
    if end and (at_least or at_most):
        raise click.UsageError("--end needs no gate: leave --at-least and --at-most out")
    gates = [] if end else _gates(at_least, at_most)
    with shoal.store.open(create=False) as store:
        name = store.models.get(address).name
        if share is None:
            store.models.end_canary(name)
            text, next_command = f"{name} has no canary", f"shoal model show {name}"
        else:
            version = store.models.get(address)
            report = _judge(version, gates)
            store.models.canary(name, version, share, results=report)
            text = f"{_verdicts(report)}\n{version.address} gets {share:g} of the traffic of {name}@production"
            next_command = f"shoal model canary {name} --end"
    facts = {"model": address, "name": name, "share": share}
    show(facts, as_json=as_json, text=text, next_command=next_command)


@command.command()
@click.argument("name")
@click.option("--alias", default="production", show_default=True, help="The alias to move.")
@click.option("--forward", is_flag=True, help="Undo the last rollback instead.")
@json_option
def rollback(name: str, alias: str, forward: bool, as_json: bool) -> None:
    """Move the alias back to the version before."""
    with shoal.store.open(create=False) as store:
        move = store.models.forward if forward else store.models.rollback
        version = move(name, alias)
    facts = {**_facts(version), "alias": alias}
    next_command = f"shoal model show {name}@{alias}"
    show(facts, as_json=as_json, text=f"{name}@{alias} is {version.address}", next_command=next_command)


@command.command()
@click.argument("prediction_id")
@click.option("--log", "log_folder", type=click.Path(path_type=Path), help="Folder of the prediction logs.")
@json_option
def why(prediction_id: str, log_folder: Path | None, as_json: bool) -> None:
    """Go back from PREDICTION_ID to its origins.

    These are its input, model, run, code, dataset, shards and sources.
    """
    with shoal.store.open(create=False) as store:
        found = shoal.model.why(prediction_id, store=store, log_folder=log_folder)
    text = fields(
        [
            ("prediction", prediction_id),
            ("input", f"row {found.input_row} of {found.input_shard}" if found.input_shard else "not logged"),
            *([("time", f"{found.time:%Y-%m-%d %H:%M:%S} UTC")] if found.time else []),
            ("model", found.model),
            ("run", found.run),
            ("code", found.code),
            ("dataset", found.dataset),
            *(("shard", shard) for shard in found.shards),
            *(("source", f"{source.path}  {source.digest}") for source in found.sources),
            *(("gap", gap) for gap in found.gaps),
        ]
    )
    next_command = f"shoal run show {found.run}" if found.run else None
    show(found, as_json=as_json, text=text, next_command=next_command)


def _gates(at_least: tuple[str, ...], at_most: tuple[str, ...]) -> "list[shoal.model.Gate]":
    gates: list[shoal.model.Gate] = [shoal.model.AtLeast(*_bound(text)) for text in at_least]
    gates += [shoal.model.AtMost(*_bound(text)) for text in at_most]
    if not gates:
        raise click.UsageError("no gate is given: at least one of --at-least and --at-most is needed")
    return gates


def _judge(version: "shoal.store.ModelVersion", gates: "list[shoal.model.Gate]") -> "shoal.store.GateReport":
    package = shoal.model.open_package(version.path, digest=version.digest)
    return shoal.model.gate(package, gates, metrics=version.metrics)


def _verdicts(report: "shoal.store.GateReport") -> str:
    return "\n".join(f"{'passed' if result.passed else 'failed'}  {result.name}" for result in report.results)


def _facts(version: "shoal.store.ModelVersion") -> dict[str, Any]:
    return {
        "model": version.address,
        "digest": version.digest,
        "run": version.run,
        "metrics": version.metrics,
        "created": version.created,
        "path": version.path,
    }


def _bound(text: str) -> tuple[str, float]:
    metric, _, number = text.partition("=")
    try:
        value = float(number)
    except ValueError:
        metric = ""
    if not metric:
        raise InputError(f"cannot read the gate {text!r}", next_step="write it as METRIC=NUMBER, as in accuracy=0.9")
    return metric, value


def _shape(shape: tuple[int | None, ...]) -> str:
    return "[" + ", ".join("any" if size is None else str(size) for size in shape) + "]"


def _aliases(aliases: dict[str, int]) -> str:
    return ", ".join(f"{alias}={version}" for alias, version in aliases.items()) or "-"
