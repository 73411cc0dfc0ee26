"""Whose turn it is: servers are started anew for each round, and one that fails is tried again and never forgotten."""

import sys
from collections import defaultdict
from collections.abc import Callable, Iterable

from data_environments import SERVING, MissingPeerError
from serving_kinds import KINDS, QUICK_PEER, SHOAL, Kind
from serving_load import Workload, run_open_loop
from serving_servers import Server

TRIES = 2

# What was found, by kind and round.
Taken = dict[str, dict[int, dict]]


class Turns:
    """Servers in turn. `missing` tells which could not be measured at what, and why."""

    def __init__(self, workload: Workload, *, quick: bool) -> None:
        self._workload = workload
        self._quick = quick
        self.missing: dict[str, str] = {}
        self.statuses_of_short: dict[str, int] = {}

    def kinds(self, *, every_setting: bool) -> list[Kind]:
        """All that are measured: with every setting of each, or with the one that stands for it."""
        if self._quick:  # making environments takes minutes: a quick run does with the one that is there
            return [SHOAL, KINDS[QUICK_PEER]] if SERVING.is_ready() else [SHOAL]
        return [kind for kind in KINDS.values() if kind.is_usual or every_setting]

    def take(self, measure: str, kinds: Iterable[Kind], number: int, work: Callable[[Server], dict]) -> Taken:
        """What `work` finds at each of them in this round; every other round goes backwards.

        A peer that fails is started once more. When it fails again, it is missing from this measure from then on.

        Raises:
            MissingPeerError: shoal itself failed twice.
        """
        found: Taken = defaultdict(dict)
        order = list(kinds)
        for kind in reversed(order) if number % 2 else order:
            if f"{kind.name}, {measure}" in self.missing:
                continue
            one = self._tried(measure, kind, work)
            if one is not None:
                found[kind.name][number] = one
                print(f"  {number + 1} {kind.name}: {_brief(one)}", file=sys.stderr, flush=True)
        return found

    def _tried(self, measure: str, kind: Kind, work: Callable[[Server], dict]) -> dict | None:
        for left in reversed(range(TRIES)):
            try:
                with self._workload.server(kind) as server:
                    self.statuses_of_short[kind.name] = server.status_of_short
                    self.warm(server)
                    return work(server)
            except MissingPeerError as error:
                then = "tried again" if left else "left out"
                print(f"  {kind.name} is {then}: {error}", file=sys.stderr, flush=True)
                if left:
                    continue
                if kind.is_shoal:
                    raise
                self.missing[f"{kind.name}, {measure}"] = str(error)
        return None

    def warm(self, server: Server) -> None:
        """Some requests that do not count: both replicas have then had batches of all sizes."""
        seconds = 0.3 if self._quick else 1.0
        run_open_loop(server, self._workload.pools[server.kind.json], connections=32, seconds=seconds)


def merge(taken: Taken, found: Taken) -> None:
    """Add a round."""
    for name, rounds in found.items():
        taken.setdefault(name, {}).update(rounds)


def _brief(found: dict) -> str:
    shown = {name: round(each, 2) for name, each in found.items() if isinstance(each, int | float)}
    for point, each in found.items():
        if isinstance(each, dict) and "rate_per_s" in each:
            shown[point] = f"{each['rate_per_s']:.0f}/s, p50 {each['p50_ms']:.2f} ms, p99 {each['p99_ms']:.1f} ms"
    return f"{shown} {found.get('reasons') or ''}".rstrip()
