"""Room on a cluster: placement groups, which give a whole gang its place or none."""

import logging
import threading
from collections.abc import Mapping
from time import monotonic
from typing import Any

from shoal.base import ConfigError
from shoal.runtime.base import Resources
from shoal.runtime.ray.connecting import ray

_log = logging.getLogger(__name__)

# How often a gang that waits says so, and looks whether it can still hope.
_PROGRESS_S = 10.0
# A bundle must ask for something; this much of a processor is in nobody's way.
_LEAST_CPUS = 0.001

Bundle = Mapping[str, float]


def bundle_of(resources: Resources) -> dict[str, float]:
    """What one member asks for, in Ray's words.

    >>> bundle_of(Resources(cpus=2, memory_bytes=1024))
    {'CPU': 2, 'memory': 1024}
    """
    wanted = {"CPU": resources.cpus, "GPU": resources.gpus, "memory": resources.memory_bytes or 0}
    return {name: amount for name, amount in wanted.items() if amount} or {"CPU": _LEAST_CPUS}


def missing_room(needs: list[tuple[Bundle, int]], nodes: list[Bundle]) -> str | None:
    """Why bundles would not fit even on empty nodes; None if nothing speaks against it.

    Exact when all bundles are alike. Different ones may each fit and still not fit together.

    Args:
        needs: each kind of bundle, and how many of it.
        nodes: all that each node has.

    >>> missing_room([({"CPU": 2}, 3)], [{"CPU": 4}, {"CPU": 1}])
    'the cluster has room for 2 of 3 members that need 2 CPU each'
    """
    for bundle, count in needs:
        fit = sum(min(int(node.get(name, 0) // amount) for name, amount in bundle.items()) for node in nodes)
        if fit < count:
            return f"the cluster has room for {fit} of {count} members that need {_words(bundle)} each"
    for name in {name for bundle, _ in needs for name in bundle}:
        wanted = sum(bundle.get(name, 0) * count for bundle, count in needs)
        present = sum(node.get(name, 0) for node in nodes)
        if wanted > present:
            return f"the members need {_words({name: wanted})}, the cluster has {_words({name: present})}"
    return None


class Room:
    """The places of one gang. Any thread may call any method."""

    def __init__(self, needs: list[tuple[Bundle, int]]) -> None:
        """Wait until there is room for all at the same time, and say so meanwhile.

        Raises:
            ConfigError: there never will be, with the nodes that the cluster has.
        """
        _check(needs)
        bundles = [dict(bundle) for bundle, count in needs for _ in range(count)]
        group = ray.util.placement_group(bundles, strategy="PACK")
        self._groups = [group]
        self._free: list[tuple[Bundle, Any, int]] = [(bundle, group, index) for index, bundle in enumerate(bundles)]
        self._lock = threading.Lock()
        try:
            began = monotonic()
            while not group.wait(_PROGRESS_S):
                _check(needs)
                _log.warning(
                    "waiting for room for %d members for %.0f s; free: %s",
                    len(bundles),
                    monotonic() - began,
                    _words(ray.available_resources()),
                )
        except BaseException:
            self.close()
            raise

    def take(self, bundle: Bundle) -> tuple[Any, int]:
        """A free place, as (placement group, index): a dead member's, or a new one that Ray has yet to find."""
        with self._lock:
            for place in self._free:
                if place[0] == bundle:
                    self._free.remove(place)
                    return place[1], place[2]
            group = ray.util.placement_group([dict(bundle)])
            self._groups.append(group)
            return group, 0

    def give_back(self, bundle: Bundle, place: tuple[Any, int]) -> None:
        """Let another member have the place."""
        with self._lock:
            self._free.append((bundle, *place))

    def close(self) -> None:
        """Give all of it back to the cluster. Idempotent."""
        with self._lock:
            groups, self._groups, self._free = self._groups, [], []
        for group in groups:
            ray.util.remove_placement_group(group)


def _check(needs: list[tuple[Bundle, int]]) -> None:
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if missing := missing_room(needs, nodes):
        raise ConfigError(
            f"cannot place the gang: {missing}", next_step="start fewer members, ask for less, or add nodes"
        )


def _words(amounts: Bundle) -> str:
    known = {name: amount for name, amount in amounts.items() if name in {"CPU", "GPU", "memory"}}
    parts = [f"{a / 2**30:.1f} GiB" if name == "memory" else f"{a:g} {name}" for name, a in known.items()]
    return ", ".join(parts) or "nothing"
