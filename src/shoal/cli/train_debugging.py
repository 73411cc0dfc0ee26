"""`shoal train debug`: a step of a recorded run again, under Python's debugger."""

import io
import pdb
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from math import isfinite
from typing import Any

import click

import shoal.train
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
        found = shoal.train.replay(run_id, step)
        loss, losses = found.probe()
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
