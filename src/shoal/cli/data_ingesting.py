"""`shoal data ingest`: files, folders, URLs and queries into a dataset, with a look at the columns first."""

import re
import shlex
import sys
from pathlib import Path
from typing import Any

import click

import shoal.data
from shoal.base import InputError
from shoal.cli.output import counted, json_option, show, working
from shoal.cli.values import read_pairs

# As the datasets' authors name them: the digit is the number of dimensions, 1 for labels.
_IDX = re.compile(r"idx(?P<dimensions>\d)-ubyte")
# Only text leaves its types open; everything else says them itself.
_TEXT = re.compile(r"\.(csv|tsv|txt|jsonl|ndjson)(\.(gz|zst))?$")

# A shell has no easy way to type a tab.
_DELIMITERS: dict[str | None, str] = {None: ",", "tab": "\t", "\\t": "\t"}


@click.command()
@click.argument("sources", nargs=-1, required=True)
@click.argument("dataset")
@click.option("--key", help="Column whose value decides shard and split; left out, the whole row does.")
@click.option("--num-shards", type=click.IntRange(1), help="Left out, it follows from the bytes.")
@click.option("--append", "is_append", is_flag=True, help="Add the rows to those that are there.")
@click.option("--dtype", "dtypes", multiple=True, metavar="COLUMN=TYPE", help="Of a CSV or JSONL column; repeatable.")
@click.option("--delimiter", help="Between the values of CSV files; a comma when left out.")
@click.option("--evolve", is_flag=True, help="With --append: let the rows bring new columns and wider numbers.")
@click.option("--query", help="SQL to run; SOURCES is then the URL of one database.")
@click.option(
    "--on-bad",
    type=click.Choice(["raise", "quarantine", "drop"]),
    default="raise",
    show_default=True,
    help="What becomes of rows that cannot be stored.",
)
@click.option("--workers", type=click.IntRange(1), default=1, show_default=True, help="Processes that read.")
@click.option(
    "--runtime",
    type=click.Choice(["local", "ray"]),
    default="local",
    show_default=True,
    help="Where these processes run.",
)
@click.option("--yes", is_flag=True, help="Do not ask whether the inferred types are right.")
@json_option
def ingest(
    sources: tuple[str, ...],
    dataset: str,
    is_append: bool,
    dtypes: tuple[str, ...],
    delimiter: str | None,
    evolve: bool,
    query: str | None,
    yes: bool,
    as_json: bool,
    **options: Any,  # noqa: ANN401 - as shoal.data.ingest takes them
) -> None:
    """Stream SOURCES into DATASET, a folder or a URL.

    SOURCES are files, patterns in quotes, folders or URLs of CSV, JSONL, Parquet or Arrow, folders of images, or IDX
    files of images and their labels. A folder that holds a dataset already gets a new version of just these rows, or
    with --append of these as well. On a terminal, columns whose types were inferred are shown for a yes.
    """
    if evolve and not is_append:
        raise click.UsageError("--evolve changes the columns of what is there: give --append too")
    given = _source(sources, read_pairs(dtypes, read=str), query, delimiter)
    if not (yes or dtypes or as_json) and query is None and all(map(_TEXT.search, sources)) and _is_terminal():
        _confirm(given)
    with working("ingesting") as progress:
        made = _store(given, dataset, is_append=is_append, evolve=evolve, progress=progress, **options)
    refused = made.num_refused
    facts = {
        "dataset": made.address,
        "rows": made.num_rows,
        "shards": len(made.shards),
        "digest": made.digest,
        "refused": refused,
        "quarantine": made.manifest.quarantine,
    }
    text = f"{made.address}  {counted(made.num_rows, 'row')} in {counted(len(made.shards), 'shard')}"
    if refused:
        text += f"\nrefused  {counted(refused, 'row')}" + (
            f", kept in {made.manifest.quarantine}" if facts["quarantine"] else ""
        )
    show(facts, as_json=as_json, text=text, next_command=shlex.join(["shoal", "data", "show", dataset]))


def _store(
    source: object,
    dataset: str,
    *,
    is_append: bool,
    evolve: bool,
    key: str | None,
    **options: Any,  # noqa: ANN401 - passed on
) -> "shoal.data.Dataset":
    if not is_append:
        return shoal.data.ingest(source, dataset, key=key, **options)
    opened = shoal.data.open(dataset)
    if key not in (None, opened.key):
        raise InputError(
            f"cannot append by key {key!r}: {opened.address} places its rows by {opened.key or 'their content'!r}",
            next_step=f"leave --key out, or change it first: shoal data reshard {dataset} --key {key}",
        )
    return opened.append(source, evolve=evolve, **options)


def _source(sources: tuple[str, ...], dtypes: dict[str, str], query: str | None, delimiter: str | None) -> object:
    if query is not None:
        if len(sources) != 1 or dtypes or delimiter:
            raise InputError(
                f"--query runs in one database and takes neither --dtype nor --delimiter, found {len(sources)} sources",
                next_step="give one URL such as postgresql://host/name, and convert types in the query",
            )
        return shoal.data.SqlSource(sources[0], query)
    matches = [_IDX.search(Path(path).name) for path in sources]
    if all(matches):
        # By their dimensions and not by their places: a shell's * sorts the files by name.
        labels = [path for path, match in zip(sources, matches, strict=True) if match and match["dimensions"] == "1"]
        return shoal.data.IdxSource(images=[path for path in sources if path not in labels], labels=labels)
    if dtypes or delimiter:
        text = [path.removesuffix(".gz").removesuffix(".zst") for path in sources]
        if all(path.endswith((".jsonl", ".ndjson")) for path in text) and not delimiter:
            return shoal.data.JsonlSource(list(sources), dtypes=dtypes)
        return shoal.data.CsvSource(
            list(sources), dtypes=dtypes, delimiter=_DELIMITERS.get(delimiter) or str(delimiter)
        )
    return list(sources) if len(sources) > 1 else sources[0]


def _is_terminal() -> bool:
    return sys.stdin.isatty()


def _confirm(source: object) -> None:
    found = shoal.data.inspect(source)
    click.echo(str(found), err=True)
    if not click.confirm("Store these columns?", default=True, err=True):
        raise InputError("nothing was stored", next_step="say the types, as in --dtype zip=string")


COMMANDS = (ingest,)
