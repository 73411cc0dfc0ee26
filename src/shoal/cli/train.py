"""`shoal train`: train a task on a dataset, go on where a run stopped, look into one of its steps."""

import inspect
import signal
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import click

import shoal.data
import shoal.store
import shoal.train
from shoal.base import InputError
from shoal.cli.output import fields, json_option, may_draw, show
from shoal.cli.target import load_target, make_importable
from shoal.cli.train_debugging import debug
from shoal.cli.typed import Duration, NumberOrRange, StepsOrDuration
from shoal.cli.values import read_pairs
from shoal.store import RunEvent

Options = Callable[[Callable[..., Any]], Callable[..., Any]]


@click.group()
def command() -> None:
    """Train a task on a dataset."""


command.add_command(debug)


def _together(*options: Options) -> Options:
    def add(function: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            function = option(function)
        return function

    return add


_WORKERS = click.option(
    "--workers",
    type=NumberOrRange(),
    default=1,
    show_default=True,
    help="Processes; 1-4: as many as the machine has processors for.",
)

# What a run and its resumption may have differently: it changes the time, never the weights; but for the device, of
# which a resumption tells.
_HOW = _together(
    click.option(
        "--device",
        metavar="NAME",
        help="cpu, cuda or one GPU, as in cuda:1; left out, as before, or a GPU if there is one.",
    ),
    click.option("--runtime", default="local", show_default=True, help="Where they run: local, ray, env."),
    click.option("--report-to", multiple=True, metavar="NAME", help="Curves also to tensorboard or wandb."),
    click.option(
        "--retries", type=click.IntRange(0), default=2, show_default=True, help="Deaths in a row without a step."
    ),
    click.option(
        "--heartbeat",
        "heartbeat_s",
        type=Duration(),
        default="10s",
        show_default=True,
        help="Silence that counts as death.",
    ),
    click.option(
        "--step-timeout",
        "step_timeout_s",
        type=Duration(),
        default="600s",
        show_default=True,
        help="The same for one step.",
    ),
    json_option,
)

# What decides the weights, beside the task and the rows.
_WHAT = _together(
    click.option("--epochs", type=click.IntRange(1), default=1, show_default=True, help="Passes over the data."),
    click.option("--max-steps", type=click.IntRange(1), help="End after so many steps, if not before."),
    click.option("--batch-size", type=click.IntRange(1), help="Rows a batch, over all workers; 64 unless given."),
    click.option(
        "--adaptive", type=NumberOrRange(range_only=True), help="Let the batch size follow the gradient's noise."
    ),
    click.option("--replay", metavar="RUN_ID", help="Take the batch sizes that this run went through."),
    click.option("--accumulate", type=click.IntRange(1), default=1, show_default=True, help="Batches a step."),
    click.option("--num-virtual", type=click.IntRange(1), help="Virtual workers; left out, as many as workers."),
    click.option("--seed", type=int, default=0, show_default=True, help="Of weights, order and randomness."),
    click.option("--threads", type=click.IntRange(1), default=1, show_default=True, help="Of each worker."),
    click.option("--early-stopping", metavar="MEASURE[:PATIENCE]", help="End once it gets no better, as in loss:3."),
    click.option(
        "--set", "settings", multiple=True, metavar="FIELD=VALUE", help="A field of the task, as JSON or text."
    ),
)

# What is measured and kept along the way.
_KEPT = _together(
    click.option("--validation", help="Dataset to validate on after each epoch."),
    click.option(
        "--validate-every",
        "validate_every_steps",
        type=click.IntRange(1),
        metavar="STEPS",
        help="Validate also after so many steps.",
    ),
    click.option("--checkpoint-every", type=StepsOrDuration(), help="Checkpoints also in between: 500 or 10min."),
    click.option(
        "--keep",
        "keep_checkpoints",
        type=click.IntRange(1),
        default=2,
        show_default=True,
        help="Checkpoints that stay, the newest.",
    ),
    click.option("--keep-for", "keep_checkpoints_s", type=Duration(), help="Older ones are removed all the same."),
    click.option("--to", "checkpoints_to", metavar="PLACE", help="Folder or object store for checkpoints."),
    click.option("--name", help="Of the run; left out, the task's."),
)


@command.command("run")
@click.argument("task")
@click.option("--data", "dataset", required=True, help="Dataset to train on.")
@_WHAT
@_KEPT
@_WORKERS
@_HOW
def run_training(
    task: str,
    dataset: str,
    validation: str | None,
    settings: tuple[str, ...],
    as_json: bool,
    **given: Any,  # noqa: ANN401 - the words of `fit`, each checked by its option
) -> None:
    """Train TASK, written file.py:Name or module:Name.

    The run lands in the nearest .shoal folder; one that was interrupted goes on by train resume. On a terminal one
    line shows where it stands; elsewhere, and with --json, standard error gets a JSON document a line.
    """
    _settle_batch_size(given)
    # Before the training floor loads torch: what is wrong with the call is said at once.
    made, rows = _task(task, settings), shoal.data.open(dataset)
    held_out = shoal.data.open(validation) if validation else None
    _settle_words(given)
    strategy, more = _strategy(given)
    given["name"] = given["name"] or task.rpartition(":")[2]
    with _watching(more, as_json=as_json) as progress:
        result = shoal.train.fit(made, rows, validation=held_out, strategy=strategy, progress=progress, **given)
    _show(result, as_json=as_json)


@command.command()
@click.argument("run_id")
@click.option("--task", help="Where its task is, as file.py:Name; left out, it is looked for in this folder.")
@click.option("--workers", type=NumberOrRange(), help="Processes; left out, as many as the run was started with.")
@_HOW
def resume(
    run_id: str,
    task: str | None,
    workers: int | tuple[int, int] | None,
    as_json: bool,
    **given: Any,  # noqa: ANN401 - as above
) -> None:
    """Go on with RUN_ID from its last checkpoint.

    It comes to the same weights that it would have had, on any number of workers.
    """
    make_importable(task)
    with shoal.store.open(create=False) as store:
        is_done, events = store.runs.get(run_id).status == "done", store.runs.events(run_id)
    if is_done:
        shoal.train.live(as_json=as_json, draw=may_draw()).say("note", f"run {run_id} has already finished")
    with _watching(f"   resumed {_place(events)}", as_json=as_json) as progress:
        result = shoal.train.resume(run_id, workers=workers, progress=progress, **given)
    _show(result, as_json=as_json)


def _place(events: Sequence[RunEvent]) -> str:
    steps = [event.fields["step"] for event in events if event.kind == "checkpoint"]
    return f"from step {steps[-1]}" if steps else "from the beginning: there was no checkpoint"


def _settle_batch_size(given: dict[str, Any]) -> None:
    """Refuse a size that would be ignored."""
    if given["adaptive"] is not None and given["batch_size"] is not None:
        least, most = given["adaptive"]
        raise InputError(
            f"--batch-size {given['batch_size']} and --adaptive {least}-{most} exclude each other",
            next_step="leave one of them out",
        )


def _settle_words(given: dict[str, Any]) -> None:
    """Put the words of the command line into those of `fit`."""
    every, stopping, adaptive = given.pop("checkpoint_every"), given["early_stopping"], given.pop("adaptive")
    if every is not None:
        given["checkpoint_every_steps" if isinstance(every, int) else "checkpoint_every_s"] = every
    if stopping is not None:
        given["early_stopping"] = _early_stopping(stopping)
    if adaptive is not None:
        given["batch_size"] = shoal.train.AdaptiveBatch(min=adaptive[0], max=adaptive[1])


def _early_stopping(text: str) -> "shoal.train.EarlyStopping":
    measure, colon, patience = text.partition(":")
    if not measure or (colon and not patience.isdecimal()):
        raise InputError(
            f"cannot read {text!r}: expected MEASURE or MEASURE:PATIENCE", next_step="write it as in loss:3"
        )
    if not colon:
        return shoal.train.EarlyStopping(monitor=measure)
    return shoal.train.EarlyStopping(monitor=measure, patience=int(patience))


def _strategy(given: dict[str, Any]) -> "tuple[shoal.train.Collective | None, str]":
    """The strategy, and what is said of it beside the run's name; None leaves it to `fit`."""
    num_virtual, workers = given.pop("num_virtual"), given["workers"]
    is_adaptive = not isinstance(given["batch_size"], int | None) and given["replay"] is None
    more = "   batch size by measured times: --replay repeats the run" if is_adaptive else ""
    if num_virtual is None and (is_adaptive or given["replay"] is not None):
        return None, more
    strategy = shoal.train.Collective(num_virtual=num_virtual)
    num_parts = strategy.num_parts(workers if isinstance(workers, int) else workers[1])
    return strategy, f"   virtual workers {num_parts}{more}"


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
        **({"best_checkpoint": best.address} if (best := result.best_checkpoint) else {}),
    }
    named = [
        ("run", result.run),
        ("steps", f"{result.steps} in {result.seconds:.1f} s, {result.samples_per_s:,.0f} samples/s"),
        *((name, f"{value:.4f}") for name, value in result.metrics.items()),
        ("checkpoint", result.checkpoint.address),
        *([("best", best.address)] if best else []),
    ]
    show(facts, as_json=as_json, text=fields(named), next_command=f"shoal run show {result.run}")


@contextmanager
def _heeding_sigterm() -> Iterator[None]:
    """Take SIGTERM, with which machines and containers are shut down, for Ctrl-C: a checkpoint comes first."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _watching(more: str, *, as_json: bool) -> "Iterator[Callable[[shoal.train.Progress], None]]":
    """Show where a run stands while the block runs, with its name first of all: after a crash, resume needs it."""
    display = shoal.train.live(as_json=as_json, draw=may_draw())
    named = False

    def show_progress(progress: "shoal.train.Progress") -> None:
        nonlocal named
        if not named:
            progress = replace(progress, news=(f"run {progress.run}{more}", *progress.news))
            named = True
        display(progress)

    def show_warning(message: Warning | str, *_: object, **__: object) -> None:
        display.say("warning", str(message))

    with warnings.catch_warnings(), _heeding_sigterm():
        # Python's own way of printing them would tear the line apart.
        warnings.showwarning = show_warning
        try:
            yield show_progress
        except KeyboardInterrupt as stop:
            display.end()
            # The last line is how to go on.
            for line in getattr(stop, "__notes__", None) or ["interrupted before the run began"]:
                click.echo(line, err=True)
            raise click.exceptions.Exit(130) from None
        finally:
            # Also after an error: what is printed next begins on a line of its own.
            display.end()
