"""The desk of a front whose server is more than itself: it has other fronts, or replicas that come when asked for."""

import os
import time
from typing import Any

from shoal.serve.desk import describe
from shoal.serve.desk.desk import Desk
from shoal.serve.links.channel import Key
from shoal.serve.records.metrics import Gauges, Metrics, render
from shoal.serve.records.totals import Snapshot, Totals, add_gauges, add_metrics, add_status
from shoal.serve.wire.http import response

_METRICS_TYPE = b"text/plain; version=0.0.4; charset=utf-8"


class SharedDesk(Desk):
    """A desk whose counters and status are those of all fronts. Used by the event loop alone."""

    def __init__(self, *arguments: Any, totals: Totals, can_wake: bool, **named: Any) -> None:  # noqa: ANN401  # for Desk
        """Stand for the fronts of `totals`; `can_wake` says whether replicas come when requests wait for them."""
        super().__init__(*arguments, **named)
        self._totals = totals
        self._can_wake = can_wake

    @property
    def is_ready(self) -> bool:
        """Whether every planned model can be served, now or when the replicas that sleep have come."""
        if super().is_ready or not self._can_wake:
            return super().is_ready
        is_asleep = not any(link.loaded for link in self._dispatcher.links.values())
        return is_asleep and not self.is_draining and not self.problems and all(map(self._is_known, self._models.plan))

    def _is_known(self, model: str) -> bool:
        shares = self._models.shares.get(model)
        return shares is not None and all(Key(model, version) in self._models.versions for version in shares.versions)

    def publish(self) -> None:
        """Let the other fronts see what this one counts and holds."""
        self._totals.publish(self._metrics, self._gauges(), self._own_status())

    def all_metrics(self) -> Metrics:
        """What was counted, by every front of the server, those that died included."""
        return add_metrics([self._metrics, *(other.metrics for other in self._totals.others())])

    def _scrape(self, *_: object) -> tuple[int, bytes]:
        fresh = [other.gauges for other in self._totals.others() if other.is_fresh]
        text = render(self.all_metrics(), add_gauges([self._gauges(), *fresh]))
        return 200, response(200, text, content_type=_METRICS_TYPE)

    def _status(self, *_: object) -> tuple[int, bytes]:
        own = self._own_status()
        mine = Snapshot(self._totals.rank, os.getpid(), time.monotonic(), self._metrics, self._gauges(), own)
        fresh = [other for other in self._totals.others() if other.is_fresh]
        return 200, describe.json_response(200, add_status(own, [mine, *fresh]))

    def _gauges(self) -> Gauges:
        return describe.gauges(self._models, self._dispatcher, ready=self.is_ready)

    def _own_status(self) -> dict[str, Any]:
        found = describe.status(
            self._models, self._dispatcher, self._journal, list(self.problems.values()), ready=self.is_ready
        )
        return {**found, "connections": len(self.connections)}
