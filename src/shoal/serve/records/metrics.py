"""What the front counts, and the Prometheus text of it."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any, Protocol

from shoal.serve.links.channel import Key

# From a small model alone to a request that admission should have refused.
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
# Powers of two, as batches double with load.
_ROWS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0)
_ENDS_LABELS = ["model", "version", "ended_by"]


class Histogram:
    """Counts by upper bound, and the sum of what was counted."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """Count one value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    @property
    def count(self) -> int:
        """How many values were counted."""
        return sum(self.counts)

    @property
    def mean(self) -> float:
        """Their mean; 0 before the first."""
        return self.sum / max(self.count, 1)

    def quantile(self, part: float) -> float:
        """The upper bound below which at least this part of the values lies, infinite beyond the last; 0 for none."""
        total = self.count
        if not total:
            return 0.0
        return next(
            (
                bound
                for bound, below in zip(self.bounds, accumulate(self.counts), strict=False)
                if below >= part * total
            ),
            float("inf"),
        )

    def buckets(self) -> list[tuple[str, float]]:
        """(upper bound in words, how many values were at most that), as Prometheus wants them."""
        names = [*(str(bound) for bound in self.bounds), "+Inf"]
        return list(zip(names, accumulate(self.counts), strict=True))


@dataclass(slots=True)
class VersionCounts:
    """What is counted for one version of one model.

    Attributes:
        rows: predicted, or found in the cache.
        request_seconds: from a request's first byte to its answer.
        queue_seconds: from when a request was read to when a replica took it.
        batch_seconds: that the model took for a batch.
        batch_rows: rows in a batch.
        ended_by: why batches were no larger, and how many were not for each reason.
        reading_seconds: spent from first bytes to the queue: receiving, parsing, checking.
        writing_seconds: spent on logging, encoding and sending answers.
        cache_hits: requests answered from the prediction cache.
        cache_misses: requests that it was asked for in vain.
    """

    rows: int = 0
    request_seconds: Histogram = field(default_factory=lambda: Histogram(_SECONDS))
    queue_seconds: Histogram = field(default_factory=lambda: Histogram(_SECONDS))
    batch_seconds: Histogram = field(default_factory=lambda: Histogram(_SECONDS))
    batch_rows: Histogram = field(default_factory=lambda: Histogram(_ROWS))
    ended_by: Counter[str] = field(default_factory=Counter)
    reading_seconds: float = 0.0
    writing_seconds: float = 0.0
    cache_hits: int = 0
    cache_misses: int = 0


@dataclass(slots=True)
class Metrics:
    """Plain counters, because every request touches them; written by the event loop alone.

    Attributes:
        answers: how many answers were sent, by status.
        by_version: what is counted for each version that ever answered.
        replica_deaths: connections to replicas that were lost.
        retried_requests: requests that were given to another replica after the first one died or failed.
        late_requests: requests whose deadline passed while they waited.
        unlogged_rows: rows answered but not logged although they should have been.
        unsampled_rows: rows that the log's rule for sampling left out.
        lost_lines: answered requests whose line could not be written.
        lost_traces: requests whose spans could not be handed on.
    """

    answers: Counter[int] = field(default_factory=Counter)
    by_version: dict[Key, VersionCounts] = field(default_factory=dict)
    replica_deaths: int = 0
    retried_requests: int = 0
    late_requests: int = 0
    unlogged_rows: int = 0
    unsampled_rows: int = 0
    lost_lines: int = 0
    lost_traces: int = 0

    def of(self, key: Key) -> VersionCounts:
        """The counts of one version."""
        counts = self.by_version.get(key)
        if counts is None:
            counts = self.by_version[key] = VersionCounts()
        return counts


def explain(counts: VersionCounts) -> dict[str, Any]:
    """Where the time of a version's requests goes and how large its batches are, for people.

    Times are means per request in milliseconds, but `model`, which is per batch; quantiles are bounds of histograms,
    None beyond the last.
    """
    answered = max(counts.request_seconds.count, 1)
    waited_s = counts.queue_seconds.quantile(0.99)
    asked = counts.cache_hits + counts.cache_misses
    sizes = zip(_ROWS, counts.batch_rows.counts, strict=False)
    return {
        "requests": counts.request_seconds.count,
        "batches": {
            "count": counts.batch_rows.count,
            "mean_rows": round(counts.batch_rows.mean, 2),
            "up_to_rows": {f"{bound:g}": count for bound, count in sizes if count},
            "ended_by": dict(counts.ended_by),
        },
        "time_ms": {
            "reading": round(counts.reading_seconds / answered * 1000, 3),
            "queue": round(counts.queue_seconds.mean * 1000, 3),
            "queue_p99_at_most": None if waited_s == float("inf") else waited_s * 1000,
            "model": round(counts.batch_seconds.mean * 1000, 3),
            "writing": round(counts.writing_seconds / answered * 1000, 3),
            "whole": round(counts.request_seconds.mean * 1000, 3),
        },
        "cache": {
            "hits": counts.cache_hits,
            "misses": counts.cache_misses,
            "hit_rate": round(counts.cache_hits / asked, 4) if asked else None,
        },
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheState:
    """What the prediction cache holds now."""

    entries: int
    bytes: int
    most_bytes: int
    evicted: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Gauges:
    """What is true at the moment of a scrape; `cache` is None where none is kept."""

    queued_rows: int
    open_requests: int
    replicas: int
    is_ready: bool
    shares: Mapping[Key, float]
    cache: CacheState | None = None


def render(metrics: Metrics, gauges: Gauges) -> bytes:
    """The text that a Prometheus server reads."""
    # Imported when somebody scrapes: most fronts on a laptop never are.
    from prometheus_client import generate_latest

    return generate_latest(_Scrape(metrics, gauges))  # type: ignore[arg-type]  # all it needs of a registry is collect()


class _Family(Protocol):
    def add_metric(self, labels: Sequence[str], *values: Any) -> None: ...  # noqa: ANN401  # as prometheus_client has it


class _Scrape:
    def __init__(self, metrics: Metrics, gauges: Gauges) -> None:
        self._metrics = metrics
        self._gauges = gauges

    def collect(self, _registry: object = None) -> Iterable[_Family]:
        yield from self._totals()
        yield from self._by_version()
        yield from self._now()
        yield from self._cache()
        yield from self._histograms()

    def _totals(self) -> Iterator[_Family]:
        from prometheus_client.core import CounterMetricFamily

        answers = CounterMetricFamily("shoal_requests", "Requests answered, by HTTP status.", labels=["status"])
        for status, count in sorted(self._metrics.answers.items()):
            answers.add_metric([str(status)], count)
        yield answers
        for name, text, value in (
            ("replica_deaths", "Replicas that were lost.", self._metrics.replica_deaths),
            ("retried_requests", "Requests given to another replica.", self._metrics.retried_requests),
            ("late_requests", "Requests whose deadline passed while they waited.", self._metrics.late_requests),
            ("unlogged_rows", "Rows that could not be logged.", self._metrics.unlogged_rows),
            ("unsampled_rows", "Rows that sampling left out of the log.", self._metrics.unsampled_rows),
            ("lost_lines", "Requests whose line could not be written.", self._metrics.lost_lines),
            ("lost_traces", "Requests whose spans could not be handed on.", self._metrics.lost_traces),
        ):
            yield CounterMetricFamily(f"shoal_{name}", text, value=value)

    def _by_version(self) -> Iterator[_Family]:
        from prometheus_client.core import CounterMetricFamily

        for name, text in (
            ("rows", "Rows predicted."),
            ("reading_seconds", "Time from first bytes to the queue: receiving, parsing, checking."),
            ("writing_seconds", "Time for logging, encoding and sending answers."),
            ("cache_hits", "Requests answered from the prediction cache."),
            ("cache_misses", "Requests that the prediction cache was asked for in vain."),
        ):
            family = CounterMetricFamily(f"shoal_{name}", text, labels=["model", "version"])
            for key, counts in self._metrics.by_version.items():
                family.add_metric([*key], getattr(counts, name))
            yield family
        batches = CounterMetricFamily("shoal_batches", "Batches, by why they were no larger.", labels=_ENDS_LABELS)
        for key, counts in self._metrics.by_version.items():
            for reason, count in sorted(counts.ended_by.items()):
                batches.add_metric([*key, reason], count)
        yield batches

    def _cache(self) -> Iterator[_Family]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        cache = self._gauges.cache
        if cache is None:
            return
        yield CounterMetricFamily("shoal_cache_evicted", "Entries that made room for others.", value=cache.evicted)
        for name, text, value in (
            ("cache_entries", "Entries of the prediction cache.", cache.entries),
            ("cache_bytes", "Bytes that they take.", cache.bytes),
            ("cache_most_bytes", "Bytes that they may take.", cache.most_bytes),
        ):
            yield GaugeMetricFamily(f"shoal_{name}", text, value=value)

    def _now(self) -> Iterator[_Family]:
        from prometheus_client.core import GaugeMetricFamily

        for name, text, value in (
            ("queued_rows", "Rows that wait for a replica.", self._gauges.queued_rows),
            ("open_requests", "Requests waiting or running.", self._gauges.open_requests),
            ("replicas", "Replicas that can take work.", self._gauges.replicas),
            ("ready", "1 when all models can be served.", int(self._gauges.is_ready)),
        ):
            yield GaugeMetricFamily(f"shoal_{name}", text, value=value)
        shares = GaugeMetricFamily("shoal_share", "Part of a model's traffic.", labels=["model", "version"])
        for key, share in self._gauges.shares.items():
            shares.add_metric([*key], share)
        yield shares

    def _histograms(self) -> Iterator[_Family]:
        from prometheus_client.core import HistogramMetricFamily

        for name, text in (
            ("request_seconds", "From the request's first byte to its answer."),
            ("queue_seconds", "From when a request was read to when a replica took it."),
            ("batch_seconds", "Time that the model took for a batch."),
            ("batch_rows", "Rows in a batch."),
        ):
            family = HistogramMetricFamily(f"shoal_{name}", text, labels=["model", "version"])
            for key, counts in self._metrics.by_version.items():
                histogram: Histogram = getattr(counts, name)
                family.add_metric([*key], histogram.buckets(), histogram.sum)
            yield family
