"""How a plan becomes what is served without losing a request: load first, switch then, let go last. Pure decisions."""

from collections.abc import Collection, Mapping, Set
from dataclasses import dataclass, field

from shoal.serve.links.channel import Key
from shoal.serve.links.messages import ModelPlan


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What the front knows at one moment.

    Attributes:
        plan: what is to be served.
        shares: what each model's traffic is divided over now; a model that was never ready is absent.
        loaded: what each connected replica has.
        asked: what each connected replica was told to load and has not, be it loading or failed.
        busy: what waits or runs; it must stay loaded.
    """

    plan: Mapping[str, ModelPlan]
    shares: Mapping[str, Mapping[str, float]]
    loaded: Mapping[int, Set[Key]]
    asked: Mapping[int, Set[Key]]
    busy: Set[Key]


@dataclass(slots=True)
class Steps:
    """What to do now, in this order: switch, then load and unload.

    Attributes:
        switches: model -> its new shares; empty shares mean that the model is no longer served.
        loads: (replica, version) to ask for.
        unloads: (replica, version) to let go.
    """

    switches: dict[str, Mapping[str, float]] = field(default_factory=dict)
    loads: list[tuple[int, Key]] = field(default_factory=list)
    unloads: list[tuple[int, Key]] = field(default_factory=list)


def decide(view: View) -> Steps:
    """The next steps towards the plan; none when it is reached or something must happen first.

    A model switches when all versions of its new shares are loaded on every replica that serves it now (on any one, if
    none does), so that no request meets fewer replicas than before. A replica that has just restarted holds up nobody.
    """
    steps = Steps()
    shares = dict(view.shares)
    for model, planned in view.plan.items():
        # As lists: the version that stands first is the main one, so another order is another division.
        is_reached = list(shares.get(model, {}).items()) == list(planned.shares.items())
        if not is_reached and _is_ready(view, model, planned.shares):
            steps.switches[model] = shares[model] = planned.shares
    for model in view.shares:
        if model not in view.plan:
            steps.switches[model] = {}
            del shares[model]
    wanted = {Key(model, version) for model, planned in view.plan.items() for version in planned.versions}
    # What is still routed to stays wanted although the plan has moved on: its successor is loading.
    wanted |= {Key(model, version) for model, divided in shares.items() for version in divided}
    # So does what requests still wait for, which the replica that had it may have taken with it.
    wanted |= view.busy
    for replica, loaded in view.loaded.items():
        missing = wanted - loaded - view.asked[replica]
        steps.loads += [(replica, key) for key in sorted(missing)]
        steps.unloads += [(replica, key) for key in sorted(loaded - wanted)]
    return steps


def _is_ready(view: View, model: str, new: Collection[str]) -> bool:
    needed = {Key(model, version) for version in new}
    current = {Key(model, version) for version in view.shares.get(model, ())}
    # A replica that serves nothing yet, because it has just restarted, is not waited for: it loads on its own time.
    having = [loaded for loaded in view.loaded.values() if needed <= loaded]
    serving = [loaded for loaded in view.loaded.values() if current and current <= loaded]
    return bool(having) and all(needed <= loaded for loaded in serving)
