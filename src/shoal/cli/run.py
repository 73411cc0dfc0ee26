"""`shoal run`: what ran, with which result, what its workers printed, and how runs compare."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import click

import shoal.base
import shoal.store
import shoal.train
from shoal.base import ConflictError, InputError, Json, NotFoundError, file_lock
from shoal.cli.charts import MAX_CURVES, Curve, svg_chart, text_chart
from shoal.cli.output import counted, fields, json_option, show, table
from shoal.store import RunRecord, Store

TIME = "%Y-%m-%d %H:%M:%S"
_TRACEBACK = "Traceback (most recent call last)"


@click.group()
def command() -> None:
    """List, show and compare what ran."""


@command.command("list")
@click.option("--kind", help="Only runs of this kind, such as train.")
@click.option("--status", type=click.Choice(["running", "done", "failed", "cancelled"]), help="Only these.")
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="The newest so many.")
@json_option
def list_runs(kind: str | None, status: str | None, limit: int, as_json: bool) -> None:
    """List the newest runs first."""
    with shoal.store.open(create=False) as store:
        records = store.runs.list(kind=kind, status=status, limit=limit)
        rows = [_row(store, record) for record in records]
    next_command = f"shoal run show {records[0].id}" if records else None
    head = ("run", "kind", "name", "status", "started (UTC)", "loss", "val accuracy")
    text = table(head, rows) if rows else "no runs yet"
    show(records, as_json=as_json, text=text, next_command=next_command)


@command.command("show")
@click.argument("run_id")
@click.option("--breakdown", "with_breakdown", is_flag=True, help="Also where the time of a training step went.")
@json_option
def show_run(run_id: str, with_breakdown: bool, as_json: bool) -> None:
    """Show configuration, code, data and metrics of a run."""
    with shoal.store.open(create=False) as store:
        record = store.runs.get(run_id)
        metrics = store.metrics.latest(run_id)
        changes = _changes(store, run_id)
        is_left = _is_left(store, record)
        parts = _breakdown(store, run_id) if with_breakdown else []
    text = fields(
        [
            ("run", f"{record.id}  {record.kind} {record.name}"),
            ("status", f"interrupted: nobody works on it; shoal train resume {run_id}" if is_left else record.status),
            ("error", record.error),
            ("started", record.started.strftime(TIME)),
            ("finished", record.finished.strftime(TIME) if record.finished else None),
            ("code", record.code),
            ("dataset", record.dataset.address if record.dataset else None),
            *((name, f"{value:.6g}") for name, value in metrics.items()),
            *(("workers", _told(change)) for change in changes),
        ]
    )
    text += f"\n\nconfig\n{_settings(record.config)}" if isinstance(record.config, Mapping) and record.config else ""
    found: dict[str, object] = {"run": record, "metrics": metrics, "workers": changes, "interrupted": is_left}
    if with_breakdown:
        text += f"\n\n{_breakdown_table(parts)}"
        found["breakdown"] = parts
    show(found, as_json=as_json, text=text)


@command.command()
@click.argument("run_id")
@click.option("--worker", type=click.IntRange(0), help="Only what this one printed.")
@click.option("--lines", type=click.IntRange(0), default=200, show_default=True, help="The last of each; 0: all.")
@json_option
def logs(run_id: str, worker: int | None, lines: int, as_json: bool) -> None:
    """Show what the workers of a run printed, below the error that came first.

    Standard output and error of each worker are kept in the run's folder, in the order in which they came.
    """
    with shoal.store.open(create=False) as store:
        record = store.runs.get(run_id)
        failure = _first_failure(store, run_id) if record.error else None
        folder = store.home / "runs" / run_id / "logs"
        printed = _printed(folder, worker, lines)
    if worker is not None and not printed:
        raise NotFoundError(
            f"run {run_id} has no log of worker {worker}", next_step=f"see which there are: shoal run logs {run_id}"
        )
    parts = [f"== first failure: {failure['message']}\n{failure['detail']}".rstrip()] if failure else []
    if not failure and record.error:
        parts.append(f"== {record.error}")
    shown, named = _not_twice(printed, failure) if worker is None else (printed, [])
    parts += [f"== {name}\n{text}".rstrip() for name, text in shown.items()]
    if named:
        files = "\n".join(str(folder / f"{name}.log") for name in named)
        parts.append(f"== failed too, as a consequence or by the same mistake\n{files}")
    facts = {"run": run_id, "error": record.error, "first_failure": failure, "logs": printed}
    show(facts, as_json=as_json, text="\n\n".join(parts) or "no worker has printed anything")


@command.command()
@click.argument("run_ids", nargs=-1, required=True, metavar="RUN_ID...")
@click.option("--metric", default="train.loss", show_default=True, help="The curve to draw.")
@click.option("--picture", type=click.Path(dir_okay=False), help="Write the curves to this .svg file.")
@json_option
def compare(run_ids: tuple[str, ...], metric: str, picture: str | None, as_json: bool) -> None:
    """Compare runs: the settings in which they differ, their results, and a curve as a picture."""
    if picture is not None and not picture.endswith(".svg"):
        raise InputError(f"cannot draw into {picture}: pictures are SVG", next_step="name a file that ends in .svg")
    ids = list(dict.fromkeys(run_ids))
    if len(ids) > MAX_CURVES:
        raise InputError(
            f"cannot tell {len(ids)} runs apart in one picture, at most {MAX_CURVES}", next_step="name fewer runs"
        )
    with shoal.store.open(create=False) as store:
        records = [store.runs.get(id) for id in ids]
        metrics = [store.metrics.latest(id) for id in ids]
        curves: dict[str, Curve] = {
            f"{record.id} {record.name}": [
                (point.step, point.value) for point in store.metrics.curve(record.id, metric)
            ]
            for record in records
        }
        known = sorted({name for id in ids for name in store.metrics.names(id)})
    if not any(curves.values()):
        raise NotFoundError(
            f"none of these runs has a curve {metric!r}; they have {', '.join(known) or 'none at all'}",
            next_step="choose one by --metric",
        )
    if picture is not None:
        Path(picture).write_text(svg_chart(curves, title=metric), encoding="utf-8")
    differences = _differences(records)
    facts = {
        "runs": [{"run": record, "metrics": latest} for record, latest in zip(records, metrics, strict=True)],
        "differences": differences,
        "curves": dict(zip(ids, curves.values(), strict=True)),
        "picture": picture,
    }
    text = f"{_comparison(records, metrics, differences)}\n\n{text_chart(curves, title=metric)}"
    if picture is not None:
        text += f"\n\npicture  {picture}"
    show(facts, as_json=as_json, text=text)


def _row(store: Store, record: RunRecord) -> tuple[str, ...]:
    """A run in the list, with how good it is where it says so."""
    latest = store.metrics.latest(record.id)
    status = "interrupted" if _is_left(store, record) else record.status
    measures = [f"{latest[name]:.4g}" if name in latest else "" for name in ("train.loss", "validation.accuracy")]
    return record.id, record.kind, record.name, status, record.started.strftime(TIME), *measures


def _is_left(store: Store, record: RunRecord) -> bool:
    """Whether a training run that is said to be running is worked on by nobody on this machine any more."""
    lock = store.home / "runs" / record.id / "supervisor.lock"
    if record.kind != "train" or record.status != "running" or not lock.exists():
        return False
    try:
        with file_lock(lock, blocking=False):
            return True
    except (ConflictError, OSError):
        # Whoever may only read the store cannot ask.
        return False


def _changes(store: Store, run_id: str) -> list[dict[str, Json]]:
    """Which workers a run lost, and with which it went on."""
    kinds = ("worker_lost", "generation")
    return [{"event": event.kind, **event.fields} for event in store.runs.events(run_id) if event.kind in kinds]


def _told(change: Mapping[str, Json]) -> str:
    if change["event"] == "worker_lost":
        return f"{change['cause']} after step {change['step']}"
    numbers = change["workers"]
    num = len(numbers) if isinstance(numbers, list) else 0
    return f"{counted(num, 'worker')} from step {change['step']} on ({change['because']})"


def _settings(value: Mapping[str, Json], indent: str = "  ") -> str:
    """One setting a line, what belongs to another one below it."""
    lines = []
    for name, item in value.items():
        if isinstance(item, Mapping) and item:
            lines += [f"{indent}{name}", _settings(item, f"{indent}  ")]
        else:
            lines.append(f"{indent}{name}  {_word(item)}")
    return "\n".join(lines)


def _breakdown(store: Store, run_id: str) -> "list[shoal.train.Part]":
    curves = {
        name: store.metrics.curve(run_id, name) for name in store.metrics.names(run_id) if name.startswith("train.")
    }
    saved = [event.fields for event in store.runs.events(run_id) if event.kind == "checkpoint"]
    held_up = [seconds for fields in saved if isinstance(seconds := fields.get("blocked_s"), float | int)]
    return shoal.train.breakdown(curves, held_up)


def _breakdown_table(parts: "Sequence[shoal.train.Part]") -> str:
    if not parts:
        return "no step times were recorded"
    rows = [(part.name, f"{part.seconds * 1e3:.3f}", f"{part.share:.1%}") for part in parts]
    rows.append(("step", f"{sum(part.seconds for part in parts) * 1e3:.3f}", "100.0%"))
    return table(("part of a step", "ms", "share"), rows)


def _first_failure(store: Store, run_id: str) -> dict[str, Json] | None:
    """The failure that ended the run: that of the worker which failed first, as later ones are its consequences."""
    ends = [event.fields for event in store.runs.events(run_id) if event.kind == "worker_failed"]
    return {name: ends[-1].get(name) for name in ("worker", "message", "detail")} if ends else None


def _not_twice(printed: Mapping[str, str], failure: Mapping[str, Json] | None) -> tuple[dict[str, str], list[str]]:
    """What is to be shown below the first failure, and the names of logs that would only show a traceback again."""
    if failure is None:
        return dict(printed), []
    first, detail = failure["worker"], str(failure["detail"] or "").strip()
    named = [name for name, text in printed.items() if _TRACEBACK in text and _number_of_log(name) != first]
    shown = {
        name: text.replace(detail, "(the traceback above)") if detail else text
        for name, text in printed.items()
        if name not in named
    }
    return shown, named


def _printed(folder: Path, worker: int | None, lines: int) -> dict[str, str]:
    """What each worker printed last, by the name of its file."""
    found = sorted(folder.glob("*.log"), key=_place_of_log)
    if worker is not None:
        found = [path for path in found if _place_of_log(path)[1] == worker]
    return {path.stem: "\n".join(path.read_text(errors="replace").splitlines()[-lines:]) for path in found}


def _place_of_log(path: Path) -> tuple[str, int]:
    return path.stem.rpartition("-")[0], _number_of_log(path.stem)


def _number_of_log(name: str) -> int:
    rank = name.rpartition("-")[2]
    return int(rank) if rank.isdigit() else -1


def _differences(records: Sequence[RunRecord]) -> dict[str, list[Json]]:
    """Settings in which the runs differ, each with its value in every run."""
    settings = [_flat(record.config) for record in records]
    names = sorted({name for found in settings for name in found})
    values = {name: [found.get(name) for found in settings] for name in names}
    return {name: found for name, found in values.items() if any(value != found[0] for value in found)}


def _flat(value: Json, name: str = "") -> dict[str, Json]:
    if not isinstance(value, Mapping):
        return {name: value}
    parts = [_flat(item, f"{name}.{key}" if name else key) for key, item in value.items()]
    return {key: item for part in parts for key, item in part.items()}


def _comparison(
    records: Sequence[RunRecord], metrics: Sequence[Mapping[str, float]], differences: Mapping[str, Sequence[Json]]
) -> str:
    """One column a run."""
    names = sorted({name for latest in metrics for name in latest})
    rows: list[list[str]] = [
        ["name", *(record.name for record in records)],
        ["status", *(record.status for record in records)],
    ]
    rows += [[name, *(_word(value) for value in values)] for name, values in differences.items()]
    rows += [[name, *(f"{latest[name]:.6g}" if name in latest else "-" for latest in metrics)] for name in names]
    return table(["", *(record.id for record in records)], rows)


def _word(value: Json) -> str:
    return value if isinstance(value, str) else shoal.base.json.encode(value).decode()
