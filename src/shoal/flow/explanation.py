"""What a run would do with each step of a graph, and why, without running anything."""

from shoal.base import ShoalError
from shoal.flow.graph import Graph, filled, pendings
from shoal.flow.keys import KeyMaker
from shoal.flow.memo import FlowMemo
from shoal.flow.outcome import StepPlan


def plan(graph: Graph, memo: FlowMemo) -> tuple[StepPlan, ...]:
    """Return one plan per node, in order. Keys below a step that would run are unknown: its result is not there yet."""
    names = graph.names()
    make_keys = KeyMaker()
    values: dict[int, object] = {}
    plans = []
    for node in graph.nodes:
        name = names[node.index]
        unknown = [
            f"input {argument} comes from {names[pending.index]}, which runs"
            for argument, value in node.arguments.items()
            for pending in pendings(value)
            if pending.index not in values
        ]
        if unknown or not node.step.memo:
            reasons = tuple(dict.fromkeys(unknown)) or ("it is not memoised",)
            plans.append(StepPlan(name=name, reused=False, reasons=reasons))
            continue
        arguments = {argument: filled(value, values.__getitem__) for argument, value in node.arguments.items()}
        try:
            key = make_keys.key_of(node.step, arguments)
        except (ShoalError, OSError) as error:
            plans.append(StepPlan(name=name, reused=False, reasons=(f"it would fail: {error}",)))
            continue
        found = memo.find([key]).get(key.digest)
        if found is not None:
            values[node.index] = found.value
        reasons = () if found else memo.why(key, name)
        plans.append(StepPlan(name=name, reused=found is not None, reasons=reasons))
    return tuple(plans)
