"""`shoal train debug`: a step of a recorded run again, under Python's debugger."""

import io
import pdb
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout, suppress
from math import isfinite
from pathlib import Path
from types import TracebackType
from typing import Any

import click

import shoal.train
from shoal.base import InputError
from shoal.cli.output import counted, fields, json_option, show, table
from shoal.cli.target import make_importable


@click.command()
@click.argument("run_id")
@click.option("--step", type=click.IntRange(1), required=True, help="Which one to stop in, counted from 1.")
@click.option("--part", type=click.IntRange(0), help="Micro-batch; left out, the first whose loss is no number, or 0.")
@click.option("--rows", "only_rows", is_flag=True, help="Print the rows of the step's batch, and start no debugger.")
@click.option("--command", "commands", multiple=True, help="Something for the debugger to do, in place of typing it.")
@click.option("--task", help="Where its task is, as file.py:Name; left out, it is looked for in this folder.")
@json_option
def debug(
    run_id: str,
    step: int,
    part: int | None,
    only_rows: bool,
    commands: tuple[str, ...],
    task: str | None,
    as_json: bool,
) -> None:
    """Do a step of RUN_ID again in this process and stop in the task's loss, under pdb.

    The state is that of the run just before the step, bit for bit: from the last checkpoint before it, with the steps
    since then done again. The run itself stays as it is.
    """
    make_importable(task)
    # What the task prints in the steps before would drown the rows, and is no JSON.
    with redirect_stdout(sys.stderr):
        found, failure = shoal.train.replay(run_id, step), None
        try:
            loss, losses = found.probe()
        except Exception:
            failure = found.find_failure()
            if failure is None:
                raise
    if failure is not None:
        if not as_json and not only_rows:
            before = None if failure.is_in_loss else failure.error
            _show_failure(found, failure.part, before, _debugger(commands))
        raise InputError(
            f"step {step} of {run_id} raises in micro-batch {failure.part}: {failure.words}",
            next_step="correct the task, then start a new run",
        )
    if part is None:
        part = next((part for part, loss in losses.items() if not isfinite(loss)), min(losses))
    facts = _facts(found, loss, losses, part)
    if as_json or only_rows:
        show(facts, as_json=as_json, text=f"{_described(found, loss, part)}\n\n{_rows(found, losses)}")
        return
    click.echo(_described(found, loss, part))
    debugger = _debugger(commands)

    def watch(function: Callable[..., Any], args: tuple[Any, ...], named: Mapping[str, Any]) -> object:
        result = debugger.runcall(function, *args, **named)
        # What the debugger gives back when somebody quits: no loss has been computed.
        if result is None:
            raise click.exceptions.Exit(0)
        return result

    outcome = found.step(part, watch)
    click.echo(f"loss of step {step}  {outcome.loss!r}")


def _show_failure(found: "shoal.train.Replay", part: int, before: Exception | None, debugger: pdb.Pdb) -> None:
    """Stop at the beginning of the loss, or at the user's line that raised `before` the loss was reached."""
    if before is not None:
        debugger.reset()
        debugger.interaction(None, _up_to_user_code(before.__traceback__))
        return

    def watch(function: Callable[..., Any], args: tuple[Any, ...], named: Mapping[str, Any]) -> object:
        return debugger.runcall(function, *args, **named)

    # The error is told in one line once the debugger is done; so is that there is no loss, where somebody quits.
    with suppress(Exception):
        found.step(part, watch)


def _up_to_user_code(trace: TracebackType | None) -> TracebackType | None:
    """A copy that ends at the last frame of code in this folder, which says more than those of libraries below it."""
    frames = []
    while trace is not None:
        frames.append(trace)
        trace = trace.tb_next
    own = [place for place, each in enumerate(frames) if _is_here(each.tb_frame.f_code.co_filename)]
    cut = None
    for each in reversed(frames[: own[-1] + 1] if own else frames):
        cut = TracebackType(cut, each.tb_frame, each.tb_lasti, each.tb_lineno)
    return cut


def _is_here(file: str) -> bool:
    return Path(file).is_relative_to(Path.cwd()) and "site-packages" not in Path(file).parts


def _debugger(commands: Sequence[str]) -> pdb.Pdb:
    if not commands:
        return pdb.Pdb(nosigint=True)
    # The step is finished when the last one is done.
    script = io.StringIO("".join(f"{command}\n" for command in (*commands, "continue")))
    debugger = pdb.Pdb(stdin=script, stdout=sys.stdout, nosigint=True, readrc=False)
    debugger.prompt = ""
    return debugger


def _facts(found: "shoal.train.Replay", loss: float, losses: Mapping[int, float], part: int) -> dict[str, object]:
    return {
        "run": found.run,
        "step": found.number,
        "epoch": found.state.position.epoch + 1,
        "checkpoint_step": found.checkpoint_step,
        "part": part,
        "loss": loss,
        "recorded_loss": found.recorded.get(found.number),
        "differing": found.differing,
        "parts": [
            {"part": part, "loss": losses[part], "rows": rows.tolist()}
            for part, rows in enumerate(found.rows)
            if part in losses
        ],
    }


def _described(found: "shoal.train.Replay", loss: float, part: int) -> str:
    began = f"the checkpoint of step {found.checkpoint_step}" if found.checkpoint_step else "the run's beginning"
    compared = len(found.losses.keys() & found.recorded.keys())
    if found.differing:
        trust = f"NOT the same: step {found.differing[0]} came to another loss than recorded"
    else:
        trust = f"{compared} losses were recorded, all the same"
    return fields(
        [
            ("run", found.run),
            ("step", f"{found.number}, in epoch {found.state.position.epoch + 1}"),
            ("from", f"{began}, {counted(len(found.losses), 'step')} done again: {trust}"),
            (
                "loss",
                f"{loss!r}, recorded {found.recorded[found.number]!r}" if found.number in found.recorded else loss,
            ),
            ("micro-batch", f"{part} of {len(found.batch.rows)}, {counted(len(found.rows[part]), 'row')}"),
        ]
    )


def _rows(found: "shoal.train.Replay", losses: Mapping[int, float]) -> str:
    rows = [
        (part, f"{losses[part]:.6g}", " ".join(map(str, numbers.tolist())))
        for part, numbers in enumerate(found.rows)
        if part in losses
    ]
    return table(("part", "loss", "rows"), rows)
