"""How results are shown: one JSON document, or aligned text for people."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import click

from shoal.base import json

Function = TypeVar("Function", bound=Callable[..., Any])


def json_option(function: Function) -> Function:
    """Add `--json` to a command, passed to it as `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")(function)


def show(value: Any, *, as_json: bool, text: str, next_command: str | None = None) -> None:  # noqa: ANN401 - any JSON value
    """Print `value` as JSON, or `text` and then the likely next command."""
    if as_json:
        click.echo(json.pretty(value))
        return
    click.echo(text)
    if next_command:
        click.echo(f"next  {next_command}")


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Lay rows out in columns as wide as their widest cell, two spaces apart, without lines or colour."""
    cells = [[str(cell) for cell in row] for row in (head, *rows)]
    widths = [max(len(row[place]) for row in cells) for place in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells
    )


def fields(pairs: Iterable[tuple[str, object]]) -> str:
    """Lay named values out, one a line, names aligned; a value of None is left out."""
    kept = [(name, str(value)) for name, value in pairs if value is not None]
    width = max((len(name) for name, _ in kept), default=0)
    return "\n".join(f"{name.ljust(width)}  {value}" for name, value in kept)


def counted(number: int, noun: str) -> str:
    """Return "1 shard" or "1,024 shards"."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def size(num_bytes: float) -> str:
    """Return a number of bytes as people read it: 52.3 MiB."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if num_bytes < 1024:
            return f"{num_bytes:.1f} {unit}" if unit != "bytes" else f"{num_bytes:.0f} bytes"
        num_bytes /= 1024
    return f"{num_bytes:.1f} TiB"


def may_draw() -> bool:
    """Whether standard error is a terminal on which lines may be redrawn: not where NO_COLOR is set."""
    from rich.console import Console  # only commands that draw pay for it

    console = Console(stderr=True)
    return console.is_terminal and not console.no_color


@contextmanager
def working(text: str) -> Iterator[Callable[[int], None]]:
    """Show `text` on a terminal while the block runs; what it yields takes the rows done so far.

    Nothing is drawn where standard error is no terminal, or NO_COLOR is set.
    """
    from rich.console import Console  # only commands that draw pay for it

    console = Console(stderr=True)
    if console.no_color or not console.is_terminal:
        yield lambda _rows: None
        return
    with console.status(text) as status:
        yield lambda rows: status.update(f"{text}, {rows:,} rows so far")
