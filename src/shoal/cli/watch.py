"""`shoal watch`: live traffic against training, and labels that come late."""

from pathlib import Path
from typing import Any

import click

import shoal.base
import shoal.model
import shoal.store
import shoal.watch
from shoal.base import NotFoundError, PackageError, json
from shoal.cli.output import json_option, show, table
from shoal.cli.values import read_value


@click.group()
def command() -> None:
    """Compare live traffic with training, and add labels."""


@command.command()
@click.argument("model")
@click.option("--log", "log_folder", type=click.Path(path_type=Path), help="Folder of the prediction logs.")
@click.option("--window", type=click.IntRange(20), default=200, show_default=True, help="Predictions a window.")
@json_option
def report(model: str, log_folder: Path | None, window: int, as_json: bool) -> None:
    """Compare what MODEL answered with its training.

    MODEL is an address such as fashion@production. Only the rows of the log that this version answered count, window
    by window. Nothing is recorded.
    """
    with shoal.store.open(create=False) as store:
        version = store.models.get(model)
        folder = _log_of(version, log_folder or store.home / "predictions")
    package = shoal.model.open_package(version.path)
    if package.profile is None:
        raise PackageError(
            f"cannot compare {version.address}: its package has no training profile",
            next_step="package it with profile=..., or add one with shoal.model.amend",
        )
    watcher = shoal.watch.Watcher(folder, package.profile, window_rows=window, version=str(version.version))
    found = [_facts(each) for each in watcher.windows()]
    head = ("window", "first row", "furthest column", "distance", "threshold", "drifted", "alert")
    rows = [
        (
            each["window"],
            each["first_row"],
            each["columns"][0].column,
            f"{each['columns'][0].distance:.3f}",
            f"{each['columns'][0].threshold:.3f}",
            "yes" if each["drifted"] else "no",
            "ALERT" if each["alert"] else "",
        )
        for each in found
    ]
    text = table(head, rows) if rows else f"{version.address} has not answered a whole window of {window} rows yet"
    text += "".join(f"\n{line}" for line in _left_out(found))
    show(found, as_json=as_json, text=text)


@command.command()
@click.argument("prediction_id")
@click.argument("value")
@json_option
def label(prediction_id: str, value: str, as_json: bool) -> None:
    """Say what PREDICTION_ID should have been.

    VALUE is JSON or text; for a classifier it is the number of the class.
    """
    truth = read_value(value)
    with shoal.store.open(create=False) as store:
        shoal.watch.label(prediction_id, truth, store=store)
    found = {"prediction_id": prediction_id, "label": truth}
    show(found, as_json=as_json, text=f"{prediction_id}  {truth}", next_command=f"shoal model why {prediction_id}")


def _log_of(version: "shoal.store.ModelVersion", folder: Path) -> Path:
    main = folder / version.name
    newest, found = -1, main
    # Versions with other columns, or of another sampled share, are logged beside, in folders that end in a digest of
    # these; the facts tell such a log from that of a model whose name just begins alike.
    for place in (main, *sorted(path.parent for path in folder.glob(f"{version.name}-*/log.json"))):
        # A part of a log that several fronts write is read with the rest of it.
        if "-front~" in place.name:
            continue
        try:
            reader = shoal.base.open_log(place)
        except NotFoundError:
            continue
        facts = json.decode((reader.schema.metadata or {}).get(b"shoal", b"{}"), dict[str, Any])
        if facts.get("model") == version.name and (last := _last_us(reader, str(version.version))) > newest:
            newest, found = last, place
    return found


def _last_us(reader: "shoal.base.SegmentReader | shoal.base.MergedReader", version: str) -> int:
    """When this version's last row came; -1 for none."""
    last = -1
    for _, batch in reader.read():
        times = zip(batch["version"].to_pylist(), batch["time_us"].to_pylist(), strict=True)
        last = max([last, *(time_us for each, time_us in times if each == version)])
    return last


def _left_out(windows: list[dict[str, Any]]) -> list[str]:
    """What the log's rule leaves out, in words."""
    if not windows:
        return []
    sample, dropped = windows[0]["sample"], windows[0]["not_logged"]
    lines = [f"{sample:.3g} of the requests are logged"] if sample < 1 else []
    return lines + ([f"not logged: {', '.join(dropped)}"] if dropped else [])


def _facts(window: "shoal.watch.Window") -> dict[str, Any]:
    return {
        "window": window.index,
        "first_row": window.rows.start,
        "last_row": window.rows.stop - 1,
        "drifted": window.report.drifted,
        "alert": window.is_raised,
        "sample": window.sample,
        "not_logged": window.not_logged,
        "columns": window.report.columns,
    }
