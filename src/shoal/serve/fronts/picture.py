"""What a front is like at the moment: for its rollout, and for the supervisor."""

from collections.abc import Mapping

from shoal.serve.batching.dispatch import Dispatcher
from shoal.serve.links.channel import Key
from shoal.serve.links.messages import Problem, Pulse, Serving
from shoal.serve.versions.models import Models
from shoal.serve.versions.rollout import View


def view_of(models: Models, dispatcher: Dispatcher, endless: Mapping[Key, float]) -> View:
    """What the rollout decides from; `endless` are versions whose loading did not end, with when to try again."""
    links = dispatcher.links
    return View(
        plan=models.plan,
        shares={model: shares.by_version for model, shares in models.shares.items()},
        loaded={number: link.loaded for number, link in links.items()},
        asked={number: link.asked | link.failed | endless.keys() for number, link in links.items()},
        busy=dispatcher.busy,
    )


def forget(models: Models, dispatcher: Dispatcher) -> None:
    """Drop what was learnt of versions that nobody has, wants or waits for."""
    kept = {key for link in dispatcher.links.values() for key in link.loaded}
    kept |= {Key(model, version) for model, planned in models.plan.items() for version in planned.versions}
    kept |= {Key(model, version) for model, shares in models.shares.items() for version in shares.versions}
    kept |= dispatcher.busy
    models.forget(kept)
    dispatcher.forget(kept)


def pulse_of(dispatcher: Dispatcher, gone_busy_s: float) -> Pulse:
    """How busy the front is; `gone_busy_s` are the seconds of replicas that are gone."""
    links = dispatcher.links.values()
    return Pulse(
        busy_s=gone_busy_s + sum(link.busy_s for link in links),
        wait_s=dispatcher.load(0).wait_s,
        num_open=dispatcher.num_open,
        num_able=sum(1 for link in links if link.loaded),
    )


def serving_of(models: Models, dispatcher: Dispatcher, problems: Mapping[str, Problem]) -> Serving:
    """What the front routes to, and by which replicas."""
    return Serving(
        models.generation,
        {model: dict(shares.by_version) for model, shares in models.shares.items()},
        list(problems.values()),
        sorted((link.rank, link.pid) for link in dispatcher.links.values() if link.pid > 0),
    )
