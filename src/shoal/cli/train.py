"""`shoal train`: train a task on a dataset, or go on where a run stopped."""

import inspect
import sys
from collections.abc import Callable
from typing import Any

import click

import shoal.data
import shoal.train
from shoal.base import InputError
from shoal.cli.output import fields, json_option, show
from shoal.cli.target import load_target
from shoal.cli.values import read_pairs


@click.group()
def command() -> None:
    """Train a task on a dataset."""


@command.command("run")
@click.argument("task")
@click.option("--data", "dataset", required=True, help="Dataset to train on.")
@click.option("--validation", help="Dataset to validate on after each epoch.")
@click.option("--epochs", type=click.IntRange(1), default=1, show_default=True, help="Passes over the data.")
@click.option(
    "--batch-size", type=click.IntRange(1), default=64, show_default=True, help="Rows a step, over all workers."
)
@click.option("--workers", type=click.IntRange(1), default=1, show_default=True, help="Processes.")
@click.option("--num-virtual", type=click.IntRange(1), help="Virtual workers; left out, as many as workers.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of weights, order and randomness.")
@click.option("--set", "settings", multiple=True, metavar="FIELD=VALUE", help="A field of the task, as JSON or text.")
@json_option
def run_training(
    task: str,
    dataset: str,
    validation: str | None,
    epochs: int,
    batch_size: int,
    workers: int,
    num_virtual: int | None,
    seed: int,
    settings: tuple[str, ...],
    as_json: bool,
) -> None:
    """Train TASK, written file.py:Name or module:Name.

    The run lands in the nearest .shoal folder; one that was interrupted goes on by train resume.
    """
    # Before the training floor loads torch: what is wrong with the call is said at once.
    made, rows = _task(task, settings), shoal.data.open(dataset)
    held_out = shoal.data.open(validation) if validation else None
    strategy = shoal.train.Collective(num_virtual=num_virtual)
    result = shoal.train.fit(
        made,
        rows,
        validation=held_out,
        epochs=epochs,
        batch_size=batch_size,
        seed=seed,
        strategy=strategy,
        workers=workers,
        name=task.rpartition(":")[2],
        progress=_progress_printer(f"   virtual workers {strategy.num_parts(workers)}"),
    )
    _show(result, as_json=as_json)


@command.command()
@click.argument("run_id")
@click.option("--task", help="Where its task is, as file.py:Name; left out, it is looked for in this folder.")
@click.option("--workers", type=click.IntRange(1), default=1, show_default=True, help="Processes.")
@json_option
def resume(run_id: str, task: str | None, workers: int, as_json: bool) -> None:
    """Go on with RUN_ID from its last checkpoint.

    It comes to the same weights that it would have had, on any number of workers.
    """
    # The record names the task's module and has its fields: it only has to be importable.
    if task:
        load_target(task)
    elif "" not in sys.path:
        sys.path.insert(0, "")
    _show(shoal.train.resume(run_id, workers=workers, progress=_progress_printer()), as_json=as_json)


def _task(address: str, settings: tuple[str, ...]) -> Any:  # noqa: ANN401 - fit checks what it is
    target, given = load_target(address), read_pairs(settings)
    if not isinstance(target, type):
        if given:
            raise InputError(
                f"cannot set {', '.join(given)} of {address}: it is made already, a {type(target).__name__}",
                next_step="leave --set out, or name the class",
            )
        return target
    signature = inspect.signature(target)
    try:
        signature.bind(**given)
    except TypeError as error:
        raise InputError(
            f"cannot build {address}: {error}; its fields are {signature}",
            next_step="set a field by its name, as in --set width=32",
        ) from error
    return target(**given)


def _show(result: "shoal.train.Result", *, as_json: bool) -> None:
    facts = {
        "run": result.run,
        "steps": result.steps,
        "seconds": round(result.seconds, 1),
        "samples_per_s": round(result.samples_per_s),
        "metrics": result.metrics,
        "checkpoint": result.checkpoint.address,
    }
    named = [
        ("run", result.run),
        ("steps", f"{result.steps} in {result.seconds:.1f} s, {result.samples_per_s:,.0f} samples/s"),
        *((name, f"{value:.4f}") for name, value in result.metrics.items()),
        ("checkpoint", result.checkpoint.address),
    ]
    show(facts, as_json=as_json, text=fields(named), next_command=f"shoal run show {result.run}")


def _progress_printer(more: str = "") -> "Callable[[shoal.train.Progress], None]":
    named = False

    def show_progress(progress: "shoal.train.Progress") -> None:
        nonlocal named
        # First of all, and not in the result alone: after Ctrl-C it is what `train resume` needs.
        if not named:
            click.echo(f"run {progress.run}{more}", err=True)
            named = True
        click.echo(
            f"step {progress.step:>6} of {progress.num_steps}   loss {progress.loss:.4f}   "
            f"{progress.samples_per_s:,.0f} samples/s   data wait {progress.data_wait:.0%}   "
            f"eta {progress.eta_s:.0f} s",
            err=True,
        )

    return show_progress
