"""`shoal model predict`: a model over every row of a dataset, on several workers, to be gone on with after a kill."""

import shlex
from pathlib import Path

import click

import shoal.data
import shoal.model
import shoal.store
from shoal.base import NotFoundError, Ref, ShoalError
from shoal.cli.counting import counting
from shoal.cli.output import fields, json_option, show


@click.command()
@click.argument("package")
@click.argument("dataset")
@click.argument("out")
@click.option("--workers", type=click.IntRange(1), default=1, show_default=True, help="Processes that score.")
@click.option("--runtime", default="local", show_default=True, help="Where they run: local, ray, ray://host:10001.")
@click.option("--batch-size", type=click.IntRange(1), help="Rows per call of the model; left out, it is measured.")
@click.option("--columns", multiple=True, metavar="NAME,...", help="Of DATASET, to go along; left out, its key.")
@json_option
def predict(
    package: str,
    dataset: str,
    out: str,
    workers: int,
    runtime: str,
    batch_size: int | None,
    columns: tuple[str, ...],
    as_json: bool,
) -> None:
    """Score every row of DATASET into dataset OUT.

    PACKAGE is a package's folder, an .onnx file, or a registered version such as fashion@production. After a kill, the
    same command does what is missing.
    """
    rows = shoal.data.open(dataset)
    model = _model(package)
    with counting("scoring", rows.num_rows) as progress:
        scored = shoal.model.predict(
            model,
            rows,
            out,
            workers=workers,
            batch_size=batch_size,
            columns=[name for text in columns for name in text.split(",")] if columns else None,
            runtime=runtime,
            progress=progress,
        )
    _record(Ref.of(model), Ref.of(rows), Ref.of(scored))
    plan = shoal.model.read_prediction_plan(out)
    facts = {
        "dataset": scored.address,
        "rows": scored.num_rows,
        "digest": scored.digest,
        "input": {"dataset": rows.address, "digest": rows.digest},
        "model": {"package": model.address, "digest": model.digest},
        "batch_size": plan.batch_size,
        "columns": plan.columns,
    }
    text = fields(
        [
            ("dataset", f"{scored.address}  {scored.num_rows:,} rows"),
            ("of", f"{rows.address}  {rows.digest}"),
            ("by", f"{model.address}  {model.digest}"),
            ("batch size", plan.batch_size),
        ]
    )
    show(facts, as_json=as_json, text=text, next_command=shlex.join(["shoal", "data", "cat", out]))


def _model(address: str) -> "shoal.model.Package | shoal.model.OnnxFile":
    path = Path(address)
    if path.exists() or "/" in address or path.suffix == ".onnx":
        return shoal.model.find_model(path)
    try:
        with shoal.store.open(create=False) as store:
            version = store.models.get(address)
    except NotFoundError as error:
        raise NotFoundError(
            f"cannot find the model {address}: no file or folder has this name, and in the registry {error.message}",
            next_step="give a package's folder, an .onnx file, or a version that `shoal model list` shows",
        ) from error
    return shoal.model.open_package(version.path, digest=version.digest)


def _record(model: Ref, dataset: Ref, scored: Ref) -> None:
    try:
        with shoal.store.open(create=False) as store:
            store.lineage.link(dataset, scored, "predicted_from")
            store.lineage.link(model, scored, "predicted_by")
    except NotFoundError:
        return  # Without a store there is nobody to tell; the result itself names both.
    except ShoalError as error:
        # The work is done, and the result itself names both.
        click.echo(f"warning  the lineage was not recorded: {error.message}", err=True)
