"""How long a model takes, measured so that two models can be compared on a noisy machine."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shoal.base import ConfigError
from shoal.model.reading import Package
from shoal.model.session import Session
from shoal.model.tables import repeat_rows

_WARM_UP = 3
# A slow model needs fewer calls to be told from another: beyond this time only the least number is made.
_BUDGET_S, _MIN_REPEATS = 5.0, 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """Milliseconds of one call of `Session.run`: the model alone, without a service around it."""

    p50_ms: float
    p99_ms: float
    mean_ms: float

    def metrics(self) -> dict[str, float]:
        """The figures under the names that gates use: `latency_p50_ms`, `latency_p99_ms`, `latency_mean_ms`."""
        return {
            "latency_p50_ms": self.p50_ms,
            "latency_p99_ms": self.p99_ms,
            "latency_mean_ms": self.mean_ms,
        }


def measure_latency(package: Package, *, batch_size: int = 1, repeats: int = 200) -> Latency:
    """Measure a package on its own examples, with one thread as a replica uses."""
    return measure_interleaved([package], batch_size=batch_size, repeats=repeats)[0]


def measure_interleaved(packages: Sequence[Package], *, batch_size: int = 1, repeats: int = 200) -> list[Latency]:
    """Measure several packages call by call in turn, so that noise of the machine hits all of them alike.

    Compare the figures of one call only; the next call may meet another machine. Each package is loaded anew, with one
    thread, and warmed up.

    Args:
        packages: their own examples are repeated to the batch size.
        batch_size: rows per call, >= 1.
        repeats: measured calls per package, >= 1; the 99th percentile needs a few hundred. After 5 s it stops at 20.
    """
    if batch_size < 1 or repeats < 1:
        raise ConfigError(f"batch_size={batch_size} and repeats={repeats} must be >= 1", next_step="leave them out")
    runners = [(Session(package), repeat_rows(package.examples()[0], batch_size)) for package in packages]
    for session, rows in runners:
        for _ in range(_WARM_UP):
            session.run(rows)
    taken_ns: list[list[int]] = [[] for _ in runners]
    places = list(range(len(runners)))
    stop_s = time.perf_counter() + _BUDGET_S
    for repeat in range(repeats):
        if repeat >= _MIN_REPEATS and time.perf_counter() > stop_s:
            break
        # The order turns around each time: who runs second finds the caches emptied by who ran first.
        for place in places if repeat % 2 else reversed(places):
            session, rows = runners[place]
            began = time.perf_counter_ns()
            session.run(rows)
            taken_ns[place].append(time.perf_counter_ns() - began)
    return [_latency(np.array(samples) / 1e6) for samples in taken_ns]


def _latency(samples_ms: NDArray[np.float64]) -> Latency:
    p50, p99 = np.percentile(samples_ms, [50, 99])
    return Latency(p50_ms=float(p50), p99_ms=float(p99), mean_ms=float(samples_ms.mean()))
