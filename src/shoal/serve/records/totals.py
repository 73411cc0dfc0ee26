"""What all fronts of a server count and hold, added up in any of them.

Each front writes its own numbers to files of its own in the server's folder, many times a second, and reads those of
the others when it is asked. The files outlive their front: one that is started again goes on from them, so no total
ever goes backwards but by the last moment before a kill.
"""

import os
import pickle
import struct
import time
import zlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from shoal.serve.links.channel import Key
from shoal.serve.records.metrics import CacheState, Gauges, Histogram, Metrics, explain

T = TypeVar("T")

_HEADER = struct.Struct("<II")
# What was true longer ago is no more: its front is dead or hangs.
_FRESH_S = 2.0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One front's numbers.

    Attributes:
        rank: of the front.
        pid: of its process.
        time_s: when it was taken, by the monotonic clock, which all processes of a machine share.
        metrics: what it has counted, its predecessors included.
        gauges: what was true.
        status: what it tells to people.
    """

    rank: int
    pid: int
    time_s: float
    metrics: Metrics
    gauges: Gauges
    status: dict[str, Any]

    @property
    def is_fresh(self) -> bool:
        """Whether its front is alive, as far as one can tell."""
        return time.monotonic() - self.time_s < _FRESH_S


class Totals:
    """The numbers of all fronts, as one of them sees them. Used by its event loop alone."""

    def __init__(self, folder: Path, rank: int, num_fronts: int) -> None:
        self.rank = rank
        # Written in turn: a front that is killed in the middle of one leaves the other whole.
        self._paths = [[folder / f"front-{number}-{half}.counts" for half in range(2)] for number in range(num_fronts)]
        self._last: dict[int, Snapshot] = {}
        self._files: list[int] = []
        self._num_written = 0

    def restore(self) -> Metrics:
        """What the front that had this rank before has counted; nothing for the first."""
        found = self._read(self.rank)
        return Metrics() if found is None else found.metrics

    def publish(self, metrics: Metrics, gauges: Gauges, status: dict[str, Any]) -> None:
        """Let the other fronts see these numbers."""
        snapshot = Snapshot(self.rank, os.getpid(), time.monotonic(), metrics, gauges, status)
        body = pickle.dumps(snapshot, pickle.HIGHEST_PROTOCOL)
        if not self._files:
            self._files = [os.open(path, os.O_WRONLY | os.O_CREAT, 0o600) for path in self._paths[self.rank]]
        os.pwrite(self._files[self._num_written % 2], _HEADER.pack(len(body), zlib.crc32(body)) + body, 0)
        self._num_written += 1

    def others(self) -> list[Snapshot]:
        """The newest numbers of every other front that ever wrote any."""
        found = (self._read(rank) for rank in range(len(self._paths)) if rank != self.rank)
        return [snapshot for snapshot in found if snapshot is not None]

    def close(self) -> None:
        """Write no more."""
        for file in self._files:
            os.close(file)
        self._files = []

    def _read(self, rank: int) -> Snapshot | None:
        found = [snapshot for path in self._paths[rank] if (snapshot := _load(path)) is not None]
        if found:
            self._last[rank] = max(found, key=lambda snapshot: snapshot.time_s)
        return self._last.get(rank)


def _load(path: Path) -> Snapshot | None:
    """The numbers in a file; None where there are none, or they are being written."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    if len(data) < _HEADER.size:
        return None
    size, check = _HEADER.unpack_from(data)
    body = data[_HEADER.size : _HEADER.size + size]
    if len(body) != size or zlib.crc32(body) != check:
        return None
    return pickle.loads(body)  # type: ignore[no-any-return]  # noqa: S301  # by a sibling, in the server's private folder


def add_metrics(all_metrics: Iterable[Metrics]) -> Metrics:
    """The counters of several fronts as those of one."""
    several = list(all_metrics)
    total = _add(several)
    # Every front loses the same replica: the front that was there longest has seen the most of it.
    return replace(total, replica_deaths=max(metrics.replica_deaths for metrics in several))


def add_gauges(all_gauges: Iterable[Gauges]) -> Gauges:
    """What is true of several fronts together; what they share, the replicas, is not counted twice."""
    several = list(all_gauges)
    caches = [gauges.cache for gauges in several if gauges.cache is not None]
    return replace(
        several[0],
        queued_rows=sum(gauges.queued_rows for gauges in several),
        open_requests=sum(gauges.open_requests for gauges in several),
        replicas=max(gauges.replicas for gauges in several),
        is_ready=all(gauges.is_ready for gauges in several),
        cache=CacheState(**_sums(caches)) if caches else None,
    )


def add_status(own: dict[str, Any], snapshots: Iterable[Snapshot]) -> dict[str, Any]:
    """What a front tells to people, with what the others (`snapshots`, itself included) have to add."""
    several = list(snapshots)
    found = {**own, "ready": all(each.status["ready"] for each in several)}
    queues = [each.status["queue"] for each in several]
    found["queue"] = {
        name: max(queue[name] for queue in queues) if name == "predicted_wait_ms" else _total(queues, name)
        for name in own["queue"]
    }
    replicas: dict[tuple[int, int], dict[str, Any]] = {}
    for replica in (dict(replica) for each in several for replica in each.status["replicas"]):
        known = replicas.setdefault((replica["rank"], replica["pid"]), replica)
        if known is not replica:
            known["running_rows"] += replica["running_rows"]
    found["replicas"] = sorted(replicas.values(), key=lambda replica: replica["rank"])
    found["problems"] = list({(p.model, p.version): p for each in several for p in each.status["problems"]}.values())
    found["logs"] = [log for each in several for log in each.status["logs"]]
    metrics, gauges = add_metrics(each.metrics for each in several), add_gauges(each.gauges for each in several)
    found["models"] = {
        model: {
            **entry,
            "versions": {
                version: {**told, **explain(metrics.of(Key(model, version)))}
                for version, told in entry["versions"].items()
            },
        }
        for model, entry in own["models"].items()
    }
    found["cache"] = gauges.cache
    found["fronts"] = [
        {"rank": each.rank, "pid": each.pid, "ready": each.status["ready"], "connections": each.status["connections"]}
        for each in sorted(several, key=lambda each: each.rank)
    ]
    return found


def _total(queues: list[dict[str, Any]], name: str) -> Any:  # noqa: ANN401  # numbers of either kind
    values = [queue.get(name) for queue in queues]
    return sum(value for value in values if isinstance(value, int | float)) if _are_numbers(values) else values[0]


def _are_numbers(values: list[Any]) -> bool:
    return any(isinstance(value, int | float) for value in values)


def _sums(several: list[CacheState]) -> dict[str, int]:
    return {field.name: sum(getattr(each, field.name) for each in several) for field in fields(CacheState)}


def _add(several: list[T]) -> T:
    """Add numbers, counters, histograms, and whatever holds these under names."""
    first: Any = several[0]
    values: list[Any] = list(several)
    total: Any
    if isinstance(first, Histogram):
        total = Histogram(first.bounds)
        total.counts = [sum(counts) for counts in zip(*(each.counts for each in values), strict=True)]
        total.sum = sum(each.sum for each in values)
    elif isinstance(first, dict):
        total = Counter() if isinstance(first, Counter) else {}
        for name in dict.fromkeys(name for each in values for name in each):
            total[name] = _add([each[name] for each in values if name in each])
    elif is_dataclass(first) and not isinstance(first, type):
        sums = {field.name: _add([getattr(each, field.name) for each in values]) for field in fields(first)}
        total = replace(first, **sums)
    else:
        total = sum(values)
    return total  # type: ignore[no-any-return]  # of the type of what was added
