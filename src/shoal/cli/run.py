"""`shoal run`: what ran, with which result."""

import click

import shoal.base
import shoal.store
from shoal.cli.output import fields, json_option, show, table

TIME = "%Y-%m-%d %H:%M:%S"


@click.group()
def command() -> None:
    """List and show what ran."""


@command.command("list")
@click.option("--kind", help="Only runs of this kind, such as train.")
@click.option("--status", type=click.Choice(["running", "done", "failed", "cancelled"]), help="Only these.")
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="The newest so many.")
@json_option
def list_runs(kind: str | None, status: str | None, limit: int, as_json: bool) -> None:
    """List the newest runs first."""
    with shoal.store.open(create=False) as store:
        records = store.runs.list(kind=kind, status=status, limit=limit)
    rows = [(record.id, record.kind, record.name, record.status, record.started.strftime(TIME)) for record in records]
    next_command = f"shoal run show {records[0].id}" if records else None
    text = table(("run", "kind", "name", "status", "started (UTC)"), rows) if rows else "no runs yet"
    show(records, as_json=as_json, text=text, next_command=next_command)


@command.command("show")
@click.argument("run_id")
@json_option
def show_run(run_id: str, as_json: bool) -> None:
    """Show configuration, code, data and metrics of a run."""
    with shoal.store.open(create=False) as store:
        record = store.runs.get(run_id)
        metrics = store.metrics.latest(run_id)
    text = fields(
        [
            ("run", f"{record.id}  {record.kind} {record.name}"),
            ("status", record.status),
            ("error", record.error),
            ("started", record.started.strftime(TIME)),
            ("finished", record.finished.strftime(TIME) if record.finished else None),
            ("code", record.code),
            ("dataset", record.dataset.address if record.dataset else None),
            ("config", shoal.base.json.encode(record.config).decode()),
            *((name, f"{value:.6g}") for name, value in metrics.items()),
        ]
    )
    show({"run": record, "metrics": metrics}, as_json=as_json, text=text)
