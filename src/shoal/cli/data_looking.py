"""The commands of `shoal data` that change nothing: show, cat, verify, diff, profile, split."""

import math
import shlex
from datetime import UTC, datetime
from typing import Any

import click

import shoal.data
from shoal.base import json
from shoal.cli.output import counted, fields, json_option, show, size, table
from shoal.cli.values import read_value

_MOST_SOURCES = 8


@click.command("show")
@click.argument("dataset")
@json_option
def show_dataset(dataset: str, as_json: bool) -> None:
    """Show columns, shards, balance, sources and history of DATASET.

    It is a folder such as clicks/, one version of it such as clicks@3, or what data split prints.
    """
    opened = shoal.data.open(dataset)
    history = [
        {
            "version": version.version,
            "created": version.created,
            "change": version.change,
            "rows": sum(shard.num_rows for shard in version.shards),
            "shards": len(version.shards),
        }
        for version in opened.history
    ]
    found = {
        "dataset": opened.address,
        "digest": opened.digest,
        "rows": opened.num_rows,
        "key": opened.key,
        "schema": opened.schema.columns,
        "shards": opened.shards,
        "balance": opened.balance,
        "sources": opened.sources,
        "preparation": opened.manifest.preparation,
        "quarantine": opened.manifest.quarantine,
        "history": history,
    }
    columns = [(column.name, str(column).partition(": ")[2]) for column in opened.schema.columns]
    text = "\n\n".join([fields(_facts(opened)), table(("column", "type"), columns), _history(history)])
    show(found, as_json=as_json, text=text, next_command=shlex.join(["shoal", "data", "verify", dataset]))


def _facts(opened: "shoal.data.Dataset") -> list[tuple[str, object]]:
    balance, sources = opened.balance, opened.sources
    stored = sum(shard.size_bytes for shard in opened.shards)
    hot = ", ".join(f"{key.value} has {key.share:.0%} of the rows" for key in balance.hot_keys[:3])
    shown: list[tuple[str, object]] = [
        ("source", f"{source.path}  {source.num_rows:,} rows") for source in sources[-_MOST_SOURCES:]
    ]
    if len(sources) > _MOST_SOURCES:
        shown.append(("", f"and {len(sources) - _MOST_SOURCES:,} earlier ones"))
    return [
        ("dataset", opened.address),
        ("digest", opened.digest),
        ("rows", f"{opened.num_rows:,}"),
        ("shards", f"{len(opened.shards):,}, together {size(stored)}"),
        ("placed by", opened.key or "the whole row"),
        ("balance", f"the largest shard has {balance.rows_ratio:.2f} times the rows of the mean one"),
        ("hot keys", hot or None),
        ("preparation", opened.manifest.preparation),
        ("quarantine", opened.manifest.quarantine),
        *shown,
    ]


def _history(history: list[dict[str, Any]]) -> str:
    rows = [
        (each["version"], f"{each['created']:%Y-%m-%d %H:%M}", each["change"], f"{each['rows']:,}", each["shards"])
        for each in history[-10:]
    ]
    return table(("version", "made (UTC)", "by", "rows", "shards"), rows)


@click.command()
@click.argument("dataset")
@click.option("--rows", type=click.IntRange(1), default=5, show_default=True, help="How many.")
@json_option
def cat(dataset: str, rows: int, as_json: bool) -> None:
    """Print the first rows of DATASET as JSON, one a line."""
    opened = shoal.data.open(dataset)
    found = [_plain(opened.schema, opened.row(number)) for number in range(min(rows, opened.num_rows))]
    show(found, as_json=as_json, text="\n".join(json.encode(row, keep_order=True).decode() for row in found))


def _plain(schema: "shoal.data.Schema", row: dict[str, Any]) -> dict[str, Any]:
    # A column that may lack a value says so in a second one.
    there = {column.name: not column.nullable or row[f"{column.name}_mask"] for column in schema.columns}
    return {name: _plain_value(row[name]) if there[name] else None for name in there}


def _plain_value(value: Any) -> Any:  # noqa: ANN401 - a NumPy value, or an object of a column of texts
    return value.tolist() if hasattr(value, "tolist") else value


@click.command()
@click.argument("dataset")
@json_option
def verify(dataset: str, as_json: bool) -> None:
    """Compare every shard of DATASET with its digests."""
    opened = shoal.data.open(dataset)
    opened.verify()
    text = f"{opened.address}  whole: {counted(len(opened.shards), 'shard')}"
    show({"dataset": opened.address, "shards": len(opened.shards), "whole": True}, as_json=as_json, text=text)


@click.command()
@click.argument("before")
@click.argument("after")
@json_option
def diff(before: str, after: str, as_json: bool) -> None:
    """Show what turns BEFORE into AFTER, two versions of one dataset such as clicks@3 clicks@5."""
    found = shoal.data.open(after).diff(shoal.data.open(before))
    text = fields(
        [
            ("rows added", f"{found.rows_added:,}"),
            ("rows removed", f"{found.rows_removed:,}"),
            ("shards", f"{len(found.shards_added)} new, {len(found.shards_removed)} gone"),
            *(("new column", column) for column in found.columns_added),
            *(("column gone", column) for column in found.columns_removed),
            *(("column", f"{old}  is now  {new}") for old, new in found.columns_changed),
            *(("new source", f"{source.path}  {source.num_rows:,} rows") for source in found.sources_added),
            *(("moved", f"{name} by {distance:.3f}") for name, distance in found.distances[:5] if distance),
        ]
    )
    show(found, as_json=as_json, text=text)


@click.command()
@click.argument("dataset")
@click.argument("fractions", nargs=-1, type=float)
@click.option("--by", help="Column whose equal values stay together, whatever the dataset's key is.")
@click.option("--time", "time_column", help="Column of instants or numbers: earlier rows on earlier sides.")
@click.option("--at", multiple=True, help="A cut in the column of --time; repeatable, instead of FRACTIONS.")
@json_option
def split(
    dataset: str,
    fractions: tuple[float, ...],
    by: str | None,
    time_column: str | None,
    at: tuple[str, ...],
    as_json: bool,
) -> None:
    """Print an address for each share of DATASET.

    FRACTIONS are numbers such as 0.8 0.2. Other commands take an address for a dataset. Each row stays on its side
    when the dataset grows.
    """
    if at and time_column is None:
        raise click.UsageError("--at cuts the column of --time")
    opened = shoal.data.open(dataset)
    if time_column is None:
        parts = opened.split(*fractions, by=by)
    elif by is not None:
        raise click.UsageError("--by and --time are two ways to split: give one")
    else:
        # Instants are typed as text; a cut in a column of numbers is one of them.
        is_instant = opened.schema[time_column].dtype == "timestamp"
        parts = opened.split_by_time(time_column, *fractions, at=at if is_instant else list(map(read_value, at)))
    shares = list(fractions) or [part.num_rows / max(opened.num_rows, 1) for part in parts]
    rows = [(share, part.num_rows, part.address) for share, part in zip(shares, parts, strict=True)]
    found = [{"fraction": share, "rows": num_rows, "dataset": address} for share, num_rows, address in rows]
    next_command = shlex.join(["shoal", "train", "run", "FILE.py:TASK", "--data", parts[0].address])
    show(found, as_json=as_json, text=table(("share", "rows", "dataset"), rows), next_command=next_command)


@click.command()
@click.argument("dataset")
@json_option
def profile(dataset: str, as_json: bool) -> None:
    """Show the statistics of each column of DATASET."""
    opened = shoal.data.open(dataset)
    instants = {column.name for column in opened.schema.columns if column.dtype == "timestamp"}
    columns = opened.profile.columns
    found = [
        {
            "column": name,
            "count": column.count,
            "nulls": column.nulls,
            "minimum": column.minimum,
            "mean": None if column.minimum is None else column.mean,
            "maximum": column.maximum,
        }
        for name, column in columns.items()
    ]
    rows = [[_cell(value, is_instant=row["column"] in instants) for value in row.values()] for row in found]
    head = ("column", "count", "nulls", "minimum", "mean", "maximum")
    show(found, as_json=as_json, text=table(head, rows))


def _cell(value: str | float | None, *, is_instant: bool) -> str:
    if isinstance(value, float) and is_instant and not math.isnan(value):
        # A profile keeps instants as microseconds, at the precision of a float32.
        return f"{datetime.fromtimestamp(value / 1e6, UTC):%Y-%m-%d %H:%M}"
    if isinstance(value, float):
        return "-" if math.isnan(value) else f"{value:.6g}"
    return "-" if value is None else str(value)


COMMANDS = (show_dataset, cat, verify, diff, split, profile)
