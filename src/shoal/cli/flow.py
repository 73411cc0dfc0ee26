"""`shoal flow`: run a flow, or ask what a run would do and why."""

import shlex
from typing import Any

import click

import shoal.flow
from shoal.base import InputError
from shoal.cli.output import json_option, show, table
from shoal.cli.target import load_target
from shoal.cli.values import read_pairs, read_value


@click.group()
def command() -> None:
    """Run a flow, or ask why a step would run."""


inputs_option = click.option(
    "--set", "inputs", multiple=True, metavar="INPUT=VALUE", help="An input: JSON, text, or @path for a file."
)


@command.command("run")
@click.argument("flow")
@inputs_option
@click.option("--force", is_flag=True, help="Run every step, reuse none.")
@json_option
def run_flow(flow: str, inputs: tuple[str, ...], force: bool, as_json: bool) -> None:
    """Run FLOW, and reuse the steps whose key is known.

    FLOW is written file.py:name or module:name.
    """
    found, given = _load(flow, inputs)
    ran = found.run(force=force, progress=_print_outcome, **given)
    rows = [(outcome.name, _verb(outcome.reused), f"{outcome.seconds:.3f}", outcome.reason) for outcome in ran.outcomes]
    text = table(("step", "", "seconds", "why"), rows) + f"\n{ran.num_run} steps ran, {ran.num_reused} reused"
    facts = {"steps": ran.outcomes, "num_run": ran.num_run, "num_reused": ran.num_reused}
    show(facts, as_json=as_json, text=text, next_command=_again("explain", flow, inputs))


@command.command()
@click.argument("flow")
@inputs_option
@json_option
def explain(flow: str, inputs: tuple[str, ...], as_json: bool) -> None:
    """Say what a run of FLOW would do, and why.

    For each step that would run it names the part of the key that changed. Nothing runs.
    """
    found, given = _load(flow, inputs)
    plans = found.explain(**given)
    # One line a reason: a step's name stands at its first.
    rows = [
        (
            plan.name if place == 0 else "",
            ("would be reused" if plan.reused else "would run") if place == 0 else "",
            why,
        )
        for plan in plans
        for place, why in enumerate(plan.reasons or ("",))
    ]
    facts = {
        "steps": plans,
        "num_run": sum(not plan.reused for plan in plans),
        "num_reused": sum(plan.reused for plan in plans),
    }
    text = table(("step", "", "why"), rows)
    show(facts, as_json=as_json, text=text, next_command=_again("run", flow, inputs))


def _load(address: str, inputs: tuple[str, ...]) -> tuple["shoal.flow.Flow[..., Any]", dict[str, Any]]:
    found = load_target(address)
    if not isinstance(found, shoal.flow.Flow):
        raise InputError(
            f"cannot run {address}: it is a {type(found).__name__}, expected a flow",
            next_step="name a function that is decorated with @shoal.flow.flow",
        )
    given = read_pairs(inputs, read=_read_input)
    # Before `run` sees them: there `store` or `force` would be taken for its own argument.
    try:
        found.signature.bind(**given)
    except TypeError as error:
        raise InputError(
            f"cannot run {address}: {error}; its inputs are {found.signature}",
            next_step="give each input once, as in --set width=32",
        ) from error
    return found, given


def _read_input(text: str) -> Any:  # noqa: ANN401 - whatever was typed
    return shoal.flow.File(text[1:]) if text.startswith("@") else read_value(text)


def _print_outcome(outcome: "shoal.flow.StepOutcome") -> None:
    click.echo(f"{outcome.name}  {_verb(outcome.reused)}  {outcome.seconds:.1f} s", err=True)


def _verb(reused: bool) -> str:
    return "reused" if reused else "ran"


def _again(verb: str, flow: str, inputs: tuple[str, ...]) -> str:
    return shlex.join(["shoal", "flow", verb, flow, *(part for text in inputs for part in ("--set", text))])
