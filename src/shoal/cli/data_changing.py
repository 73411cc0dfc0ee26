"""The commands of `shoal data` that write: sample, reshard, repair, mirror, gc."""

import shlex
from pathlib import Path

import click

import shoal.data
from shoal.cli.output import counted, json_option, show, size, working


@click.command()
@click.argument("dataset")
@click.argument("amount", type=float)
@click.option("--by", help="Column of classes whose shares the sample keeps.")
@click.option("--seed", type=int, default=0, show_default=True, help="Another one draws another sample.")
@click.option("--to", "target", help="Write the sample as a dataset of its own into this folder.")
@json_option
def sample(dataset: str, amount: float, by: str | None, seed: int, target: str | None, as_json: bool) -> None:
    """Print the address of a sample of DATASET.

    AMOUNT is a fraction such as 0.1, or a number of rows above 1. The address opens the same rows anywhere; nothing
    is copied without --to.
    """
    opened = shoal.data.open(dataset)
    drawn = opened.sample(int(amount) if amount > 1 else amount, by=by, seed=seed)
    if target is not None:
        with working("writing") as progress:
            drawn = shoal.data.ingest(drawn, target, key=opened.key, progress=progress)
    facts = {"dataset": drawn.address, "rows": drawn.num_rows, "of": opened.num_rows}
    text = f"{drawn.address}  {drawn.num_rows:,} of {opened.num_rows:,} rows"
    show(facts, as_json=as_json, text=text, next_command=shlex.join(["shoal", "data", "show", drawn.address]))


@click.command()
@click.argument("dataset")
@click.option("--num-shards", type=click.IntRange(1), help="Left out, it follows from the bytes.")
@click.option("--shard-bytes", type=click.IntRange(1), default=64 << 20, show_default=True, help="Size of a shard.")
@click.option("--key", help="Place rows by this column from now on.")
@json_option
def reshard(dataset: str, num_shards: int | None, shard_bytes: int, key: str | None, as_json: bool) -> None:
    """Write the rows of DATASET into other shards, as a new version."""
    opened = shoal.data.open(dataset)
    made = opened.reshard(num_shards=num_shards, target_shard_bytes=shard_bytes, key=key)
    facts = {"dataset": made.address, "rows": made.num_rows, "shards": len(made.shards), "before": len(opened.shards)}
    cut = f"{counted(len(made.shards), 'shard')}, {len(opened.shards)} before"
    text = f"{made.address}  {counted(made.num_rows, 'row')} in {cut}"
    show(facts, as_json=as_json, text=text, next_command=shlex.join(["shoal", "data", "gc", str(made.path)]))


@click.command()
@click.argument("dataset")
@click.option("--from", "source", help="Another copy; left out, the mirror.")
@json_option
def repair(dataset: str, source: str | None, as_json: bool) -> None:
    """Bring damaged and missing files of DATASET back from its mirror or another copy."""
    restored = shoal.data.repair(dataset, source)
    opened = shoal.data.open(dataset)
    text = "\n".join([f"{opened.address}  {counted(len(restored), 'file')} restored, all are whole", *restored])
    show({"dataset": opened.address, "restored": restored}, as_json=as_json, text=text)


@click.command()
@click.argument("dataset")
@click.argument("location", required=False)
@json_option
def mirror(dataset: str, location: str | None, as_json: bool) -> None:
    """Keep a second copy of DATASET at LOCATION, a folder or a URL; without it, bring the copy up to date."""
    opened = shoal.data.open(dataset)
    kept = opened.mirror(location)
    text = f"{opened.address}  mirrored at {kept}"
    next_command = shlex.join(["shoal", "data", "verify", dataset])
    show({"dataset": opened.address, "mirror": kept}, as_json=as_json, text=text, next_command=next_command)


@click.command()
@click.argument("dataset", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--keep-versions", type=click.IntRange(1), help="Drop all versions but the newest so many.")
@click.option("--yes", is_flag=True, help="Delete what is listed.")
@json_option
def gc(dataset: Path, keep_versions: int | None, yes: bool, as_json: bool) -> None:
    """List the files of DATASET that no version needs, and with --yes delete them."""
    found = shoal.data.collect_garbage(dataset, keep_versions=keep_versions, delete=yes)
    what = f"{counted(len(found.files), 'file')}, {size(found.size_bytes)}"
    versions = "version" if len(found.versions) == 1 else "versions"
    dropped = f"{versions} {', '.join(map(str, found.versions))}, " if found.versions else ""
    text = f"{'deleted' if yes else 'would delete'}  {dropped}{what}"
    again = ["shoal", "data", "gc", str(dataset), "--yes"]
    if keep_versions is not None:
        again += ["--keep-versions", str(keep_versions)]
    next_command = shlex.join(again) if found.files and not yes else None
    show({"deleted": yes, **_plan(found)}, as_json=as_json, text=text, next_command=next_command)


def _plan(found: "shoal.data.Garbage") -> dict[str, object]:
    return {"versions": found.versions, "files": found.files, "size_bytes": found.size_bytes}


COMMANDS = (sample, reshard, repair, mirror, gc)
