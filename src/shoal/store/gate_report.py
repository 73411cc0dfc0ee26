"""The results of a package's gates, and the one rule that the registry applies to them."""

from dataclasses import dataclass

from shoal.base import GateError


@dataclass(frozen=True, slots=True, kw_only=True)
class GateResult:
    """What one gate found.

    Attributes:
        name: the gate as a person would write it, such as "accuracy >= 0.9".
        passed: whether it let the package through.
        metric: the name of the number that was judged.
        value: that number, or None when the package has none: such a gate has not passed.
        threshold: what it was compared with.
        message: one sentence for people.
    """

    name: str
    passed: bool
    metric: str = ""
    value: float | None = None
    threshold: float | None = None
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class GateReport:
    """All gates of one package, bound to its content: a report for other bytes opens nothing."""

    package_digest: str
    results: tuple[GateResult, ...]

    @property
    def passed(self) -> bool:
        """Whether there is at least one gate and none refused."""
        return bool(self.results) and all(result.passed for result in self.results)

    @property
    def failures(self) -> tuple[GateResult, ...]:
        """The gates that refused."""
        return tuple(result for result in self.results if not result.passed)


def check_report(report: GateReport, *, address: str, digest: str) -> None:
    """Let a version through only on its own gates, all of them passed.

    Args:
        report: what the gates said.
        address: the version's name, for the message.
        digest: the version's content; the report must be about exactly this.

    Raises:
        GateError: the report is empty, about another package, or holds a refusal.
    """
    again = "judge this package with shoal.model.gate(package, gates) and pass what it returns"
    if not isinstance(report, GateReport):
        raise GateError(
            f"cannot move {address}: results is {type(report).__name__}, expected GateReport", next_step=again
        )
    if report.package_digest != digest:
        raise GateError(
            f"cannot move {address}: the gate results are about {report.package_digest}, the version is {digest}",
            next_step=again,
        )
    if not report.results:
        raise GateError(f"cannot move {address}: no gate was applied, expected at least one", next_step=again)
    if report.failures:
        found = "; ".join(result.message or result.name for result in report.failures)
        raise GateError(
            f"cannot move {address}: {len(report.failures)} of {len(report.results)} gates refused: {found}",
            next_step="improve the model or, on purpose, relax the gate and judge the package again",
        )
