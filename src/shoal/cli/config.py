"""`shoal config`: the value of every setting and where it came from."""

import click

import shoal.base
from shoal.cli.output import json_option, show, table


@click.group()
def command() -> None:
    """Show settings and where each came from: shoal.toml, then SHOAL_*, then flags; the later wins."""


@command.command("show")
@json_option
def show_settings(as_json: bool) -> None:
    """Print every setting with its value and its source."""
    resolved = shoal.base.load_settings()
    found = {
        name: {"value": getattr(resolved.settings, name), "source": source} for name, source in resolved.sources.items()
    }
    rows = [(name, "-" if entry["value"] is None else entry["value"], entry["source"]) for name, entry in found.items()]
    show(found, as_json=as_json, text=table(("setting", "value", "from"), rows))
