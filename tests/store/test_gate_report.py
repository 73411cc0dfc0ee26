import pytest

from shoal.base import GateError
from shoal.store import GateReport, GateResult
from shoal.store.gate_report import check_report

PASSED = GateResult(name="accuracy >= 0.9", passed=True)
REFUSED = GateResult(name="p99_ms <= 5", passed=False)


def test_passed_report_of_the_version_is_let_through():
    check_report(GateReport(package_digest="b3:1", results=(PASSED,)), address="fashion@2", digest="b3:1")


@pytest.mark.parametrize(
    ("report", "words"),
    [
        (GateReport(package_digest="b3:1", results=()), "no gate was applied"),
        (GateReport(package_digest="b3:1", results=(PASSED, REFUSED)), "1 of 2 gates refused: p99_ms <= 5"),
        (GateReport(package_digest="b3:9", results=(PASSED,)), "are about b3:9, the version is b3:1"),
        (None, "NoneType"),
        ({"passed": True}, "dict"),
    ],
)
def test_anything_else_is_refused_with_its_reason(report, words):
    with pytest.raises(GateError, match=words) as caught:
        check_report(report, address="fashion@2", digest="b3:1")

    assert "fashion@2" in caught.value.message
    assert caught.value.next_step


def test_report_knows_whether_it_passed():
    reports = [GateReport(package_digest="b3:1", results=results) for results in ((), (PASSED,), (PASSED, REFUSED))]

    assert [report.passed for report in reports] == [False, True, False]
    assert reports[2].failures == (REFUSED,)


def test_message_of_the_gate_is_shown():
    slow = GateResult(name="latency", passed=False, message="p99 7.0 ms, expected at most 5.0")

    with pytest.raises(GateError, match=r"7\.0 ms"):
        check_report(GateReport(package_digest="d", results=(slow,)), address="fashion@2", digest="d")
