"""Gates: what a package must show before it may become production."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from shoal.base import InputError
from shoal.model.latency import measure_latency
from shoal.model.reading import Package
from shoal.store import GateReport, GateResult

_LATENCY = "latency_"


class Gate(Protocol):
    """One condition on one metric. `check` is pure and never raises for what it finds."""

    @property
    def metric(self) -> str:
        """The name of the number that is judged."""
        ...

    def check(self, value: float) -> GateResult:
        """Judge the number, which is not NaN."""
        ...


@dataclass(frozen=True, slots=True)
class AtLeast:
    """The metric is `value` or more."""

    metric: str
    value: float

    def check(self, value: float) -> GateResult:
        """Pass from the bound upwards."""
        return _result(self.metric, value, ">=", self.value)


@dataclass(frozen=True, slots=True)
class AtMost:
    """The metric is `value` or less."""

    metric: str
    value: float

    def check(self, value: float) -> GateResult:
        """Pass from the bound downwards."""
        return _result(self.metric, value, "<=", self.value)


@dataclass(frozen=True, slots=True)
class Beats:
    """The metric is better than a simple model's by at least `margin`: what is not worth its complexity stays out."""

    metric: str
    baseline_value: float
    margin: float = 0.0

    def check(self, value: float) -> GateResult:
        """Pass from baseline + margin upwards; with a margin of 0 it must be above."""
        return _result(self.metric, value, ">=" if self.margin > 0 else ">", self.baseline_value + self.margin)


@dataclass(frozen=True, slots=True)
class NotWorse:
    """The metric is at most `tolerance` below that of the model in production.

    Attributes:
        than: production's value; None where nothing is in production yet, and the gate passes.
        lower_is_better: for losses and latencies: at most `tolerance` above.
    """

    metric: str
    than: float | None
    tolerance: float = 0.0
    lower_is_better: bool = False

    def check(self, value: float) -> GateResult:
        """Pass unless worse by more than the tolerance."""
        if self.than is None:
            return GateResult(
                name=f"{self.metric} not worse than production",
                passed=True,
                metric=self.metric,
                value=value,
                message="nothing is in production to be compared with",
            )
        if self.lower_is_better:
            return _result(self.metric, value, "<=", self.than + self.tolerance)
        return _result(self.metric, value, ">=", self.than - self.tolerance)


def gate(package: Package, gates: Sequence[Gate], *, metrics: Mapping[str, float] | None = None) -> GateReport:
    """Judge a package by all gates and return what each of them found.

    Nothing is passed by default: a metric that is missing or not a number fails its gate, with the reason.

    Args:
        package: the report is bound to its digest; the registry takes it for no other.
        gates: at least one.
        metrics: figures beside those in the package; they win where names meet. `latency_p50_ms`, `latency_p99_ms` and
            `latency_mean_ms` (batches of one row) are measured here and now when a gate asks and nobody gave them.

    Raises:
        InputError: there are no gates: nothing would be judged.
    """
    if not gates:
        raise InputError(
            f"cannot judge {package.name!r}: there are no gates",
            next_step="give at least one, such as AtLeast('accuracy', 0.9)",
        )
    known = {**package.metrics, **(metrics or {})}
    if any(each.metric.startswith(_LATENCY) and each.metric not in known for each in gates):
        known = {**measure_latency(package).metrics(), **known}
    return GateReport(package_digest=package.digest, results=tuple(_judge(each, known) for each in gates))


def _judge(gate: Gate, metrics: Mapping[str, float]) -> GateResult:
    value = metrics.get(gate.metric)
    if value is None or math.isnan(value):
        found = "is not a number" if value is not None else f"is not known, only {', '.join(sorted(metrics)) or 'none'}"
        return GateResult(
            name=f"{gate.metric} is known", passed=False, metric=gate.metric, message=f"{gate.metric} {found}"
        )
    return gate.check(float(value))


_COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    ">=": lambda value, bound: value >= bound,
    ">": lambda value, bound: value > bound,
    "<=": lambda value, bound: value <= bound,
}


def _result(metric: str, value: float, sign: str, bound: float) -> GateResult:
    passed = _COMPARISONS[sign](value, bound)
    name = f"{metric} {sign} {bound:.6g}"
    return GateResult(
        name=name,
        passed=passed,
        metric=metric,
        value=value,
        threshold=bound,
        message=f"{metric} is {value:.6g}, expected {sign} {bound:.6g}",
    )
