"""`shoal data`: ingest, look at, split and check datasets."""

import math
import re
import shlex
from pathlib import Path
from typing import Any

import click

import shoal.data
from shoal.base import json
from shoal.cli.output import fields, json_option, show, table, working

# As the datasets' authors name them: the digit is the number of dimensions, 1 for labels.
_IDX = re.compile(r"idx(?P<dimensions>\d)-ubyte")


@click.group()
def command() -> None:
    """Ingest, look at, split and check datasets."""


@command.command()
@click.argument("sources", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.argument("dataset", type=click.Path(path_type=Path))
@click.option("--key", help="Column whose value decides shard and split; left out, the whole row does.")
@click.option("--num-shards", type=click.IntRange(1), help="Left out, it follows from the bytes.")
@json_option
def ingest(sources: tuple[Path, ...], dataset: Path, key: str | None, num_shards: int | None, as_json: bool) -> None:
    """Stream SOURCES into DATASET, a folder.

    They are Parquet, Arrow or CSV files, or IDX files of images and their labels. A folder that holds a dataset already
    gets a new version of just these rows.
    """
    with working("ingesting") as progress:
        made = shoal.data.ingest(_source(sources), dataset, key=key, num_shards=num_shards, progress=progress)
    facts = {"dataset": made.address, "rows": made.num_rows, "shards": len(made.shards), "digest": made.digest}
    text = f"{made.address}  {made.num_rows:,} rows in {len(made.shards)} shards"
    show(facts, as_json=as_json, text=text, next_command=shlex.join(["shoal", "data", "show", str(dataset)]))


@command.command("show")
@click.argument("dataset")
@json_option
def show_dataset(dataset: str, as_json: bool) -> None:
    """Show columns, shards and sources of DATASET.

    It is a folder such as clicks/, one version of it such as clicks@3, or what data split prints.
    """
    opened = shoal.data.open(dataset)
    columns = [(column.name, column.dtype, list(column.shape) or "") for column in opened.schema.columns]
    text = fields(
        [
            ("dataset", opened.address),
            ("digest", opened.digest),
            ("rows", f"{opened.num_rows:,}"),
            ("shards", len(opened.shards)),
            *(("source", f"{source.path}  {source.num_rows:,} rows") for source in opened.sources),
        ]
    )
    found = {
        "dataset": opened.address,
        "digest": opened.digest,
        "rows": opened.num_rows,
        "schema": opened.schema.columns,
        "shards": opened.shards,
        "sources": opened.sources,
    }
    text = text + "\n\n" + table(("column", "type", "shape"), columns)
    show(found, as_json=as_json, text=text, next_command=shlex.join(["shoal", "data", "verify", dataset]))


@command.command()
@click.argument("dataset")
@click.option("--rows", type=click.IntRange(1), default=5, show_default=True, help="How many.")
@json_option
def cat(dataset: str, rows: int, as_json: bool) -> None:
    """Print the first rows of DATASET as JSON, one a line."""
    opened = shoal.data.open(dataset)
    found = [_plain(opened.schema, opened.row(number)) for number in range(min(rows, opened.num_rows))]
    show(found, as_json=as_json, text="\n".join(json.encode(row, keep_order=True).decode() for row in found))


@command.command()
@click.argument("dataset")
@json_option
def verify(dataset: str, as_json: bool) -> None:
    """Compare every shard of DATASET with its digests."""
    opened = shoal.data.open(dataset)
    opened.verify()
    text = f"{opened.address}  {len(opened.shards)} shards are whole"
    show({"dataset": opened.address, "shards": len(opened.shards), "whole": True}, as_json=as_json, text=text)


@command.command()
@click.argument("dataset")
@click.argument("fractions", nargs=-1, required=True, type=float)
@json_option
def split(dataset: str, fractions: tuple[float, ...], as_json: bool) -> None:
    """Print an address for each share of DATASET.

    FRACTIONS are numbers such as 0.8 0.2. Other commands take an address for a dataset. Nothing is written, and each
    row stays on its side when the dataset grows.
    """
    parts = shoal.data.open(dataset).split(*fractions)
    rows = [(fraction, part.num_rows, part.address) for fraction, part in zip(fractions, parts, strict=True)]
    found = [{"fraction": fraction, "rows": num_rows, "dataset": address} for fraction, num_rows, address in rows]
    next_command = shlex.join(["shoal", "train", "run", "FILE.py:TASK", "--data", parts[0].address])
    show(found, as_json=as_json, text=table(("share", "rows", "dataset"), rows), next_command=next_command)


@command.command()
@click.argument("dataset")
@json_option
def profile(dataset: str, as_json: bool) -> None:
    """Show the statistics of each column of DATASET."""
    columns = shoal.data.open(dataset).profile.columns
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
    rows = [[_cell(value) for value in row.values()] for row in found]
    head = ("column", "count", "nulls", "minimum", "mean", "maximum")
    show(found, as_json=as_json, text=table(head, rows))


def _source(paths: tuple[Path, ...]) -> object:
    matches = [_IDX.search(path.name) for path in paths]
    if all(matches):
        # By their dimensions and not by their places: a shell's * sorts the files by name.
        labels = [path for path, match in zip(paths, matches, strict=True) if match and match["dimensions"] == "1"]
        return shoal.data.IdxSource(images=[path for path in paths if path not in labels], labels=labels)
    return list(paths)


def _plain(schema: "shoal.data.Schema", row: dict[str, Any]) -> dict[str, Any]:
    # A column that may lack a value says so in a second one.
    there = {column.name: not column.nullable or row[f"{column.name}_mask"] for column in schema.columns}
    return {name: _plain_value(row[name]) if there[name] else None for name in there}


def _plain_value(value: Any) -> Any:  # noqa: ANN401 - a NumPy value, or an object of a column of texts
    return value.tolist() if hasattr(value, "tolist") else value


def _cell(value: str | float | None) -> str:
    if isinstance(value, float):
        return "-" if math.isnan(value) else f"{value:.6g}"
    return "-" if value is None else str(value)
